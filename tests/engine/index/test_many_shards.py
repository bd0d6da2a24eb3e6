"""An index of a thousand shards within 256 descriptors, and none left when it is closed."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hficma.engine import Engine, Filter, build_index
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import encode_recipes, raise_level
from hficma.engine.index.index_facts import IndexFacts, write_index_manifest
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.writing.transaction import listed_files, new_shard, shard_name
from hficma.errors import InputError
from tests.engine.datasets import NoiseDataset

SHARDS = 1000
DESCRIPTORS = 256
DESCRIPTORS_FOLDER = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(
    not DESCRIPTORS_FOLDER.is_dir(), reason="open descriptors are counted in /proc"
)


@pytest.fixture(scope="module")
def many(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand shards of one recipe each, at `tables`: eleven arrays a shard."""
    path = tmp_path_factory.mktemp("many") / "index"
    bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="onnxruntime", threads=1))
    facts = IndexFacts(
        of="recipes", model_id=bundle.model_id, bundle=str(hf_icma_bundle), dataset=None,
        level="tables", encoding_precision="fp32", prefilter="Flat", shard_items=1,
    )  # fmt: skip
    recipe = NoiseDataset(1).recipe(0)
    encoded = encode_recipes(bundle, [bundle.tokenizer(recipe)])
    assert encoded.encodings is not None
    encodings = raise_level(bundle, "recipe", encoded.encodings, "tables")
    names = [shard_name(number) for number in range(SHARDS)]
    with pytest.MonkeyPatch.context() as patch:
        # A dozen files a shard would wait for the disk a dozen thousand times.
        patch.setattr("hficma.engine.writing.shard_writer.sync", lambda path: None)
        for number, name in enumerate(names):
            with new_shard(path, name, facts) as writer:
                one = replace(recipe, id=f"r{number}")
                writer.append([number], [one], encoded.vectors, encodings)
    write_index_manifest(
        path,
        replace(facts, shards=tuple(names), next_number=SHARDS, next_shard=SHARDS),
        listed_files(path, names),
    )  # fmt: skip
    return path


def limited(program: str, *arguments: object, descriptors: int = DESCRIPTORS) -> str:
    """Run a program with few descriptors, as `ulimit -n` gives them; return its output."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors},) * 2)\n"
            + program,
            *map(str, arguments),
        ],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not ended.returncode, ended.stderr
    return ended.stdout


def test_a_thousand_shards_work_within_256_descriptors(
    many: Path, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Eleven a shard: 94 small additions made an index that not even `compact` could open."""
    path = shutil.copytree(many, tmp_path / "i", copy_function=os.link)
    output = limited(
        """
import sys
from pathlib import Path
from hficma.engine import Engine, Filter, IndexWriter, index_info, verify_index
from tests.engine.datasets import NoiseDataset
index, bundle = map(Path, sys.argv[1:])
photo = NoiseDataset(1).photo(0)
print(len(index_info(index)["shards"]))
with Engine.open(index, bundle=bundle, runtime="onnxruntime", threads=2) as engine:
    print(len(engine.search(image=photo, k=1000, exact=True).hits))
    print(len(engine.search(image=photo, k=9, filter=Filter(without_ids=("r5",))).hits))
found = verify_index(index, bundle=bundle, spot_checks=3)
print(found.items, found.problems)
with IndexWriter(index) as writer:
    print(writer.remove(["r7"]))
    print(writer.add(NoiseDataset(2, first=2000), bundle=bundle, runtime="onnxruntime", threads=1))
    writer.compact()
print(index_info(index)["items"])
""",
        path,
        hf_icma_bundle,
    )
    assert output.split("\n") == ["1000", "1000", "9", "1000 ()", "1", "2", "1001", ""]


def test_too_few_descriptors_are_one_line(many: Path) -> None:
    """Wherever opening is when the last one is taken: after none, one, two ... that are left."""
    output = limited(
        """
import os, sys
from pathlib import Path
import faiss, filelock, onnxruntime, hficma.engine.engine
from hficma.engine.index.index import Index
from hficma.errors import HficmaError
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for free in range(4):
    try:
        Index.open(Path(sys.argv[1])).close()
        print("opened")
    except HficmaError as error:
        print(error)
    os.close(held.pop())
""",
        many,
    )
    lines = output.splitlines()
    assert lines[0] != "opened"
    assert lines[-1] == "opened"
    assert all(line == "opened" or "Too many open files" in line for line in lines)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@needs_proc
def test_closing_lets_go_of_every_descriptor_and_mapping(
    hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Thirty engines opened and closed held 123 descriptors, until the collector came."""
    index = build_index(
        hf_icma_bundle, NoiseDataset(400), tmp_path / "i", shard_items=200, keep="tables",
        prefilter="SQ8", threads=1, runtime="onnxruntime",
    )  # fmt: skip
    photo = NoiseDataset(1).photo(0)

    def use() -> None:
        with Engine.open(index, bundle=hf_icma_bundle, runtime="onnxruntime", threads=2) as engine:
            engine.search(image=photo, filter=Filter(without=("salt",)))

    def open_files() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text().splitlines()
        return len(os.listdir(DESCRIPTORS_FOLDER)), sum(str(index) in line for line in maps)

    use()
    gc.collect()
    with without_garbage_collection():
        before = open_files()
        for _ in range(30):
            use()
        assert open_files() == before
    assert before[1] == 0


def test_a_closed_engine_says_so(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Not by what of it happens to be gone first; closing it twice is fine."""
    index = build_index(hf_icma_bundle, NoiseDataset(5), tmp_path / "i", threads=1)
    engine = Engine.open(index, bundle=hf_icma_bundle, runtime="onnxruntime", threads=1)
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="this engine was closed; open it again"):
        engine.search(image=NoiseDataset(1).photo(0))
    with pytest.raises(InputError, match="this bundle was closed"):
        engine.bundle.run("image", {})
