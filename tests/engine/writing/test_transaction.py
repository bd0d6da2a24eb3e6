"""Writers exclude each other, follow no link, and sweep what killed ones left."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from hficma.engine import IndexWriter, build_index, index_info
from hficma.engine.writing.transaction import building_lock
from hficma.engine.writing.unique_ids import IdTable, UniqueIds
from hficma.errors import ArtifactError
from tests.disk import largest_file
from tests.engine.datasets import NoiseDataset
from tests.engine.writing.test_build import ids, unfinished

ROOT = Path(__file__).parents[3]


@pytest.fixture
def index(adamine_bundle: Path, tmp_path: Path) -> Path:
    return build_index(adamine_bundle, NoiseDataset(6), tmp_path / "index", shard_items=4)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder and a file that belong to somebody else."""
    folder = tmp_path / "victim"
    for name in ("photos", ".000002.part", "000009"):
        (folder / name).mkdir(parents=True)
        (folder / name / "mine").write_text("precious", encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def changes(index: Path) -> None:
    with IndexWriter(index) as writer:
        writer.add(NoiseDataset(2, first=50), threads=1)
        writer.remove(["r50"])
        writer.compact()


def test_shards_that_are_a_link(index: Path, victim: Path) -> None:
    """`compact` on an index from a stranger deleted what the link pointed to."""
    before = contents(victim)
    (index / "shards").rename(index / "elsewhere")
    (index / "shards").symlink_to(victim)
    with pytest.raises(ArtifactError, match="shards: is a link"):
        changes(index)
    assert contents(victim) == before


def test_a_link_among_the_shards(index: Path, victim: Path) -> None:
    """Links that have names of shards are removed themselves, never what they point to."""
    before = contents(victim)
    for name in (".000002.part", "000007"):
        (index / "shards" / name).symlink_to(victim)
    changes(index)
    assert contents(victim) == before
    assert not any(path.is_symlink() for path in (index / "shards").iterdir())


def test_a_lock_that_is_a_link(index: Path, victim: Path) -> None:
    """Opened to be written, it emptied the file that it pointed to."""
    before = contents(victim)
    (index / ".lock").unlink(missing_ok=True)
    (index / ".lock").symlink_to(victim / "photos" / "mine")
    with pytest.raises(ArtifactError, match="lock: is a link"):
        IndexWriter(index)
    assert contents(victim) == before


def test_a_lock_is_never_emptied(index: Path) -> None:
    """A hard link to a file of somebody else looks like any lock."""
    (index / ".lock").write_text("precious", encoding="utf-8")
    changes(index)
    assert (index / ".lock").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("name", [".index.building", ".index.building.lock"])
def test_a_build_follows_no_link(
    adamine_bundle: Path, tmp_path: Path, victim: Path, name: str
) -> None:
    """Whoever may write to the folder could have the build write, and sweep, anywhere."""
    before = contents(victim)
    (tmp_path / name).symlink_to(victim if name.endswith("building") else victim / "photos/mine")
    with pytest.raises(ArtifactError, match="is a link"):
        build_index(adamine_bundle, NoiseDataset(3), tmp_path / "index")
    assert contents(victim) == before


def test_the_next_writer_sweeps_what_killed_ones_left(index: Path) -> None:
    """They lay there for ever; what is not ours by its name is nobody's to remove."""
    building_lock(index).touch()
    for name in (".manifest.json.4711.part", ".manifest.json.4711.0123abcd.part", "plan.json"):
        (index / name).write_text("{}", encoding="utf-8")
    (index / "notes.txt").write_text("mine", encoding="utf-8")
    for name in ("000017", ".000018.part", "my photos"):
        (index / "shards" / name).mkdir()
    with IndexWriter(index):
        pass
    assert {path.name for path in index.iterdir()} == {
        "manifest.json", ".lock", "notes.txt", "shards",
    }  # fmt: skip
    assert {path.name for path in (index / "shards").iterdir()} == {
        "000000", "000001", "my photos",
    }  # fmt: skip
    assert [path.name for path in index.parent.iterdir()] == ["index"]


def build_slowly(bundle: Path, out: Path, begun: object, go_on: object) -> None:
    """Build an index, waiting in the middle of it."""

    class Slow(NoiseDataset):
        def recipe(self, index: int):  # type: ignore[no-untyped-def]
            if index == 3:
                begun.set()  # type: ignore[attr-defined]
                go_on.wait(30)  # type: ignore[attr-defined]
            return super().recipe(index)

    build_index(bundle, Slow(4), out, threads=1)


def test_who_comes_second_is_told_of_the_first(
    adamine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first one ends between the second's first look and its lock: it said that
    the place cannot be written, or began the whole work again."""
    out = tmp_path / "index"
    context = multiprocessing.get_context("spawn")
    begun, go_on = context.Event(), context.Event()
    first = context.Process(target=build_slowly, args=(adamine_bundle, out, begun, go_on))
    first.start()
    assert begun.wait(60)
    with pytest.raises(ArtifactError, match="index: another process is writing to it"):
        build_index(adamine_bundle, NoiseDataset(4), out)

    def meanwhile(*arguments: object, **options: object) -> object:
        go_on.set()
        first.join(60)
        return planned(*arguments, **options)

    from hficma.engine.writing import build

    planned = build.planned_facts
    monkeypatch.setattr(build, "planned_facts", meanwhile)
    with pytest.raises(ArtifactError, match="another process was writing to it, and is done"):
        build_index(adamine_bundle, NoiseDataset(4), out)
    assert first.exitcode == 0
    assert ids(out) == [f"r{i}" for i in range(4)]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_build_that_fails_at_once_leaves_nothing(adamine_bundle: Path, tmp_path: Path) -> None:
    """An empty unfinished index would be garbage beside every mistyped command."""
    with pytest.raises(KeyboardInterrupt):
        build_index(adamine_bundle, Interrupting(10), tmp_path / "index")
    assert not unfinished(tmp_path / "index").exists()
    assert list(tmp_path.iterdir()) == []


class Interrupting(NoiseDataset):
    """Reading is interrupted as by Ctrl-C."""

    def recipe(self, index: int):  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt


@pytest.mark.parametrize("missing", ["fcntl", "pwd", "resource"])
def test_indexing_imports_where_unix_is_not(missing: str) -> None:
    """macOS and Windows lack what Linux has; at import nothing may ask for it."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import hficma.engine.writing.build, hficma.engine.writing.index_writer\n"
        "import hficma.cli.commands.indexes\n"
    )
    if missing == "fcntl":
        code = f"import filelock\n{code}"  # which decides by itself
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_level_is_chosen_where_the_system_says_no_memory(
    hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no `sysconf`: without `--keep`, every index ended in a traceback there."""
    monkeypatch.delattr("os.sysconf")
    index = build_index(hf_icma_bundle, NoiseDataset(2), tmp_path / "i", threads=1)
    assert index_info(index)["keep"] == "tables"


def test_nothing_of_ours_imports_unix_only_modules() -> None:
    """`import fcntl` at the top of one file is an error of every command on Windows."""
    paths = [
        str(path)
        for folder in ("hficma", "engine", "export", "training")
        for path in (ROOT / folder).rglob("*.py")
        if any(
            line.startswith(("import fcntl", "from fcntl", "import pwd", "import resource"))
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    ]
    assert paths == []


@pytest.mark.parametrize("reads", [0, 1, 1000])
def test_taken_ids_are_found_whatever_way_they_are_looked_up(
    index: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """Two items of one id could not be told apart: shards are asked, read at once, or read after
    having been asked; items 1 and 5 were removed."""
    monkeypatch.setattr("hficma.engine.writing.unique_ids.READS_PER_LOOKUP", reads)
    data = NoiseDataset(9)
    shards = [index / "shards" / name for name in ("000000", "000001")]
    messages: list[str] = []
    unique = UniqueIds(shards[:1], (1, 5), strict=False, on_bad=messages.append)
    for _ in range(3):
        mask = unique.accept([data.recipe(i) for i in (0, 2, 3)])
        assert not mask.any()
    assert len(messages) == 9
    assert all("in the index already" in line for line in messages)
    assert unique.accept([data.recipe(i) for i in (1, 4, 5, 5)]).tolist() == [
        True,
        True,
        True,
        False,
    ]
    assert "r5 ('cook soup'): this id came before in what is being added" in messages[-1]
    unique.shard_done(shards[1])
    mask = unique.accept([data.recipe(i) for i in (3, 4, 8)])
    assert mask.tolist() == [False, False, True]
    assert "came before" in messages[-1]


def test_equal_hashes_are_not_equal_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item left out because its hash is another's would be lost without a word."""
    import hficma.engine.writing.unique_ids as module

    monkeypatch.setattr(module, "_hashes", lambda ids: module.np.array([len(i) for i in ids]))
    table = IdTable()
    for place, names in enumerate((["aa", "b"], ["cc"], ["dd", "eee"])):
        table.add(names, place)
    assert {place: set(names) for place, names in table.candidates(["xx", "yyyy"]).items()} == {
        0: {"xx"}, 1: {"xx"}, 2: {"xx"},
    }  # fmt: skip
    assert len(table._runs) <= 2


def test_an_interrupted_last_step_is_a_whole_index(
    adamine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the rename: what is left over goes with the next writer."""

    def killed(self: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        unlink = Path.unlink
        patched.setattr(
            Path, "unlink", lambda self, **o: killed(self) if self.name == "plan.json" else
            unlink(self, **o),
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            build_index(adamine_bundle, NoiseDataset(3), tmp_path / "index")
    assert index_info(tmp_path / "index")["items"] == 3
    assert (tmp_path / "index" / "plan.json").exists()
    with IndexWriter(tmp_path / "index"):
        pass
    assert not (tmp_path / "index" / "plan.json").exists()


def test_a_disk_that_takes_only_part_of_a_compaction(adamine_bundle: Path, tmp_path: Path) -> None:
    """Half a merged shard stayed on the full disk, and so did those merged before it."""
    removed = ["r1", "r9", "r17"]
    path = build_index(adamine_bundle, NoiseDataset(24), tmp_path / "index", shard_items=8)
    with IndexWriter(path) as writer:
        writer.remove(removed)
    before, messages = ids(path), []
    for largest in range(250, 200_000, 1500):
        with IndexWriter(path) as writer:
            try:
                with largest_file(largest):
                    writer.compact()
                break
            except ArtifactError as error:
                messages.append(str(error))
            leftovers = {path.name for path in (path / "shards").iterdir()}
            assert leftovers == {"000000", "000001", "000002"}
        assert ids(path) == before
    assert len(messages) > 3
    assert all("cannot be written" in line for line in messages)
    assert ids(path) == [name for name in before if name not in removed]
    assert not list(path.rglob("*.part"))
