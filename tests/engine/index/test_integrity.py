"""An index is what its format says and leads nowhere else, or opening it is one line."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hficma.artifacts.manifest import read_manifest, write_manifest
from hficma.engine import Engine, Filter, IndexWriter, build_index, verify_index
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.index.index import Index
from hficma.engine.writing.shard_writer import ShardWriter
from hficma.errors import ArtifactError, HficmaError, InputError
from tests.engine.datasets import NoiseDataset
from tests.torture.damage import NASTY
from tests.torture.flips import OLDER


@pytest.fixture(scope="module")
def pristine_index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_index(
        hf_icma_bundle, NoiseDataset(12), tmp_path_factory.mktemp("pristine") / "i", shard_items=4,
        keep="projections", side_precision="int8", prefilter="SQ8", threads=1,
        runtime="onnxruntime",
    )  # fmt: skip


@pytest.fixture
def index(pristine_index: Path, tmp_path: Path) -> Path:
    """An index of one's own to damage."""
    return Path(shutil.copytree(pristine_index, tmp_path / "i"))


def rehash(index: Path, *files: str) -> None:
    """Make the manifest agree with changed files, as whoever made the index could."""
    manifest = read_manifest(index, kind="index")
    for name in files:
        manifest.files[name] = hashlib.sha256((index / name).read_bytes()).hexdigest()
    write_manifest(index, manifest)


def edit_shard(index: Path, change: Any) -> None:
    """Change a shard's own word, with the hash in the manifest."""
    name = "shards/000000/shard.json"
    record = json.loads((index / name).read_text())
    change(record)
    (index / name).write_text(json.dumps(record))
    rehash(index, name)


@pytest.mark.parametrize("dtype", ["|O", "<i4", ">i8", "<u8", "<f8"])
def test_dtypes_of_no_format_are_refused(index: Path, dtype: str) -> None:
    """`|O` made pointers of the file's bytes, and other orders of them gave other answers."""
    edit_shard(index, lambda record: record["arrays"]["lengths"].update(dtype=dtype))
    with pytest.raises(ArtifactError, match="damaged"):
        Index.open(index)


@pytest.mark.parametrize(
    ("fact", "value"),
    [("error_norm", -1.0), ("error_entry", float("nan")), ("largest_norm", float("inf")),
     ("bounded", 1)],
)  # fmt: skip
def test_bounds_that_would_break_proofs_are_refused(index: Path, fact: str, value: object) -> None:
    """A negative or NaN error proves whatever one likes."""
    edit_shard(index, lambda record: record["prefilter"].update({fact: value}))
    with pytest.raises(ArtifactError, match=fact):
        Index.open(index)


@pytest.mark.parametrize("name", ["../../victim", "/etc", "00000a", ".", "000000/..", "000009"])
def test_shard_names_are_no_paths(index: Path, name: str) -> None:
    manifest = read_manifest(index, kind="index")
    manifest.facts["shards"][0] = name
    write_manifest(index, manifest)
    with pytest.raises(ArtifactError):
        Index.open(index)


def test_a_shard_that_the_manifest_does_not_name_is_not_taken_for_one_it_does(index: Path) -> None:
    """Two shards that changed places hold whole files, and other answers."""
    one, two, spare = (index / "shards" / name for name in ("000000", "000001", "spare"))
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    with pytest.raises(ArtifactError, match="not as it was written"):
        Index.open(index)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_an_index_says_opening_it_is_an_answer_or_one_line(
    index: Path, data: st.DataObject
) -> None:
    """With every hash made to agree, so that only what is said is judged."""
    name = data.draw(st.sampled_from(["manifest.json", "shards/000000/shard.json"]))
    before = (index / name).read_text()
    manifest = (index / "manifest.json").read_text()
    record = json.loads(before)
    edited = copy.deepcopy(record["facts"] if name == "manifest.json" else record)
    *path, last = data.draw(st.sampled_from(list(places(edited))))
    holder = edited
    for key in path:
        holder = holder[key]
    old = holder[last]
    message = ""
    nudged = old + 1 if isinstance(old, (int, float)) else None
    holder[last] = data.draw(st.sampled_from([*NASTY, nudged]))
    try:
        if name == "manifest.json":
            changed = read_manifest(index, kind="index")
            changed.facts.clear()
            changed.facts.update(edited)
            write_manifest(index, changed)
        else:
            (index / name).write_text(json.dumps(edited))
            rehash(index, name)
        with Index.open(index) as opened:
            opened.filter_masks(Filter(having=("salt",)))
            for shard in opened.shards:
                shard.prefilter.search(np.zeros((1, shard.vectors.shape[1]), np.float32), 3, None)
    except HficmaError as error:
        message = str(error)
    finally:
        (index / name).write_text(before)
        (index / "manifest.json").write_text(manifest)
    assert "\n" not in message


@pytest.mark.parametrize("what", ["shards", "shards/000001", "shards/000001/global"])
def test_a_link_inside_an_index_is_refused(index: Path, tmp_path: Path, what: str) -> None:
    """`compact` deleted what a link named `shards` pointed to."""
    victim = tmp_path / "victim"
    (index / what).rename(victim)
    if victim.is_dir():
        (victim / "photos").mkdir()
        (victim / "photos" / "a").write_text("a")
    before = sorted(victim.rglob("*"))
    (index / what).symlink_to(victim)
    with pytest.raises(ArtifactError, match="is a link"):
        Index.open(index)
    with pytest.raises(ArtifactError), IndexWriter(index) as writer:
        writer.compact()
    assert sorted(victim.rglob("*")) == before
    assert any("is a link" in problem for problem in verify_index(index).problems)


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize(
    "file", ["global", "query.scale", "numbers", "records.sqlite", "prefilter.faiss", "blocks"]
)
def test_files_of_another_size_are_told_at_opening(index: Path, file: str, change: int) -> None:
    """Reading past the end of a mapped file kills the process."""
    path = index / "shards" / "000001" / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] if change < 0 else content + b"\0")
    with pytest.raises(ArtifactError, match=rf"{file}: is damaged \(\d+ bytes, not \d+\)"):
        Index.open(index)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -0.2, True, "0.2", None])
@pytest.mark.parametrize("name", ["global_weight", "local_weight"])
def test_weights_that_break_certificates_are_refused(
    hf_icma_bundle: Path, tmp_path: Path, name: str, weight: object
) -> None:
    bundle = Path(shutil.copytree(hf_icma_bundle, tmp_path / "b"))
    manifest = read_manifest(bundle, kind="bundle")
    manifest.facts["model"][name] = weight
    write_manifest(bundle, manifest)
    with pytest.raises(ArtifactError, match=name):
        Bundle.open(bundle)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_in_no_index(tmp_path: Path, value: float) -> None:
    """They would be in no answer, or in all of them."""
    writer = ShardWriter(tmp_path, level=None, precision="fp32")
    vectors = np.ones((3, 4), np.float32)
    vectors[1, 2] = value
    recipes = [NoiseDataset(3).recipe(i) for i in range(3)]
    with pytest.raises(InputError, match=r"r1: .* not finite"):
        writer.append([0, 1, 2], recipes, vectors, None)
    writer.close()


def test_a_stored_vector_that_is_not_finite_is_told(tmp_path: Path) -> None:
    """As an older version let it be written; its hashes are right."""
    index = Path(shutil.copytree(OLDER / "index", tmp_path / "i"))
    shard = index / "shards" / "000000"
    vectors = np.fromfile(shard / "global", "<f4")
    vectors[3] = np.nan
    vectors.tofile(shard / "global")
    edit_shard(index, lambda record: record["files"].update(
        {"global": hashlib.sha256((shard / "global").read_bytes()).hexdigest()}
    ))  # fmt: skip
    rehash(index, "shards/000000/global")
    with (
        Engine.open(index, bundle=OLDER / "bundle", runtime="onnxruntime", threads=1) as engine,
        pytest.raises(ArtifactError, match="not finite"),
    ):
        engine.search(image=NoiseDataset(1).photo(0), k=9, exact=True)


def test_records_are_read_through_few_open_files(
    hf_icma_bundle: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed when others are read, opened again when they are asked for, from several threads."""
    monkeypatch.setattr("hficma.engine.files.record_file.CONNECTIONS", 1)
    photo = NoiseDataset(1).photo(0)

    def ask() -> list[tuple[str, float]]:
        with Engine.open(index, bundle=hf_icma_bundle, runtime="onnxruntime", threads=2) as engine:
            engine.search(image=photo, k=12)
            answer = engine.search(image=photo, k=12, filter=Filter(without_ids=("r2", "r9")))
        return [(hit.id, hit.score) for hit in answer.hits]

    expected = ask()
    monkeypatch.setattr("hficma.engine.files.record_file.SMALL", 0)
    assert ask() == expected
    assert len(expected) == 10


def test_records_closed_for_others_are_read_after_their_shard_was_removed(
    hf_icma_bundle: Path,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reader holds its state for as long as it likes, whatever a writer compacts meanwhile."""
    caplog.set_level("INFO", logger="hficma")
    monkeypatch.setattr("hficma.engine.files.record_file.CONNECTIONS", 1)
    monkeypatch.setattr("hficma.engine.files.record_file.SMALL", 0)
    copied = Path(shutil.copytree(index, tmp_path / "index"))
    photo = NoiseDataset(1).photo(0)
    with Engine.open(copied, bundle=hf_icma_bundle, runtime="onnxruntime", threads=1) as engine:
        expected = engine.search(image=photo, k=12)
        assert len(engine.index.shards) > 1
        shutil.rmtree(copied / "shards")
        again = engine.search(image=photo, k=12)
    assert [hit.title for hit in again.hits] == [hit.title for hit in expected.hits]
    assert "was removed by a writer; it is read from memory" in caplog.text
