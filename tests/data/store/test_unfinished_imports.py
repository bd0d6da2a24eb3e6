"""Imports that were killed, meet a full disk or another import: nothing is lost, nothing mixed."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hficma.artifacts.manifest import read_manifest
from hficma.data.directory import DatasetDirectory
from hficma.data.sources import Source, SourceRecipe, open_source
from hficma.data.store import importing as importing_module
from hficma.data.store import photo_store
from hficma.data.store import recipe_store as shards
from hficma.data.store.importing import import_dataset
from hficma.data.store.photo_store import PhotoStore
from hficma.errors import ArtifactError, InputError
from hficma.limits import MEGABYTE


class Interrupted(BaseException):
    """Stands for a kill: nothing in the importer may catch it."""


class Ending(Source):
    """A source that ends the import after some recipes, or at the first photo."""

    def __init__(self, inner: Source, recipes: int) -> None:
        super().__init__(inner.path)
        self.inner, self.left = inner, recipes

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        for found in self.inner.recipes(strict=strict, on_bad=on_bad, scratch=scratch):
            if not self.left:
                raise Interrupted
            self.left -= 1
            yield found

    def photo(self, image: str) -> bytes:
        raise Interrupted

    def signature(self) -> dict[str, Any]:
        return self.inner.signature()


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing_module, "SHARD", 2)
    monkeypatch.setattr(importing_module, "BATCH", 2)


def kill(source: Path, out: Path, *, recipes: int, **options: Any) -> None:
    with pytest.raises(Interrupted):
        import_dataset(Ending(open_source(str(source)), recipes), out, **options)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_other_options_are_refused_and_nothing_is_deleted(jsonl: Path, tmp_path: Path) -> None:
    """Hours of work went without a word where `--max-photos` was another."""
    out = tmp_path / "out"
    kill(jsonl, out, recipes=5)
    before = files_of(tmp_path / ".out.importing")
    with pytest.raises(ArtifactError) as caught:
        import_dataset(open_source(str(jsonl)), out, max_photos=3)
    message = str(caught.value)
    assert "4 recipes written, and max_photos was 5, now it is 3" in message
    assert "pass restart" in message
    assert "\n" not in message
    jsonl.write_text(jsonl.read_text() + "\n")
    os.utime(jsonl, ns=(1, 1))
    with pytest.raises(ArtifactError, match="the source was changed since it began"):
        import_dataset(open_source(str(jsonl)), out)
    assert files_of(tmp_path / ".out.importing") == before
    result = import_dataset(open_source(str(jsonl)), out, max_photos=0, restart=True)
    assert (result.recipes, result.photos) == (9, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "own"]


def test_where_nothing_counted_nothing_is_refused(jsonl: Path, tmp_path: Path) -> None:
    """Whoever mends a mistake of the first line need not be told of `--restart`."""
    kill(jsonl, tmp_path / "out", recipes=0)
    assert import_dataset(open_source(str(jsonl)), tmp_path / "out", max_photos=1).recipes == 9


def test_a_source_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    """Each mistake in the name of a file left a hidden folder."""
    (tmp_path / "r.jsonl").write_text("{\n")
    with pytest.raises(InputError):
        import_dataset(open_source(str(tmp_path / "r.jsonl")), tmp_path / "out", strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"signature": 1}', '{"shards": [1]}'])
def test_a_damaged_state_is_refused(jsonl: Path, tmp_path: Path, content: str) -> None:
    """What cannot be read says nothing of what it counts, so it is not thrown away unasked."""
    kill(jsonl, tmp_path / "out", recipes=5)
    (tmp_path / ".out.importing" / "state.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"state\.json is damaged; pass restart"):
        import_dataset(open_source(str(jsonl)), tmp_path / "out")
    assert import_dataset(open_source(str(jsonl)), tmp_path / "out", restart=True).recipes == 9


def test_what_killed_imports_leave_is_swept(jsonl: Path, tmp_path: Path) -> None:
    """Scratch files and half shards are of no use to the next run and would stay for ever."""
    kill(jsonl, tmp_path / "out", recipes=5)
    building = tmp_path / ".out.importing"
    (building / "scratch-abc").mkdir()
    (building / "recipes-00002.part").write_bytes(b"half")
    (building / ".state.json.999999.0123abcd.part").write_bytes(b"half")
    (tmp_path / ".out.importing.lock").touch()
    import_dataset(open_source(str(jsonl)), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "own"]
    named = read_manifest(tmp_path / "out", kind="dataset").files
    assert set(files_of(tmp_path / "out")) == {*named, "manifest.json"}


@pytest.mark.parametrize("moment", ["sha256", "write_manifest", "sync"])
def test_a_kill_while_it_is_published(
    jsonl: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is done again, and names what was left out once, not twice."""
    lines = jsonl.read_text().splitlines()
    (jsonl.parent / json.loads(lines[1])["image"]).write_bytes(b"no photo")
    jsonl.write_text("\n".join([*lines, "{"]) + "\n")
    real = getattr(importing_module, moment)

    def killed(*arguments: Any, **keywords: Any) -> Any:
        if (tmp_path / ".out.importing" / "left_out.txt").exists():
            raise Interrupted
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(importing_module, moment, killed)
        with pytest.raises(Interrupted):
            import_dataset(open_source(str(jsonl)), tmp_path / "out")
    result = import_dataset(open_source(str(jsonl)), tmp_path / "out")
    text = (tmp_path / "out" / "left_out.txt").read_text()
    assert (result.recipes, result.photos, result.left_out) == (9, 8, 2)
    assert text.count("\n") == 2
    assert "line 10" in text


def test_every_bad_record_is_named(tmp_path: Path) -> None:
    """Past ten thousand they were neither named nor counted."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"ingredients": ["salt"]}\n' + "{\n" * 10_100)
    result = import_dataset(open_source(str(path)), tmp_path / "out")
    assert result.left_out == 10_100
    assert (tmp_path / "out" / "left_out.txt").read_text().count("\n") == 10_100


def test_strict_minds_what_an_earlier_run_left_out(jsonl: Path, tmp_path: Path) -> None:
    """The bad record was left out before --strict was asked for; it is still bad."""
    jsonl.write_text(jsonl.read_text() + "{\n")
    kill(jsonl, tmp_path / "out", recipes=9)
    with pytest.raises(InputError, match="line 10"):
        import_dataset(open_source(str(jsonl)), tmp_path / "out", strict=True, max_photos=5)
    assert not (tmp_path / "out").exists()


def test_the_losing_import_says_that_another_is_writing(jsonl: Path, tmp_path: Path) -> None:
    """Two at once would write each other's shards."""

    class Meanwhile(Ending):
        def photo(self, image: str) -> bytes:
            with pytest.raises(ArtifactError, match="is being written by another import"):
                import_dataset(self.inner, tmp_path / "out")
            return self.inner.photo(image)

    result = import_dataset(Meanwhile(open_source(str(jsonl)), 99), tmp_path / "out", workers=1)
    assert result.photos == 9


def test_more_photos_than_a_byte_counts_are_refused(jsonl: Path, tmp_path: Path) -> None:
    """With 256 photos a recipe would have had none."""
    with pytest.raises(InputError, match="0 to 255"):
        import_dataset(open_source(str(jsonl)), tmp_path / "out", max_photos=256)


@pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors are read from /proc")
def test_rows_are_on_the_disk_before_they_count(
    layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a state that counts a shard without its rows is a dataset with a hole."""
    events: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_fsync(descriptor)

    def replace(old: Any, new: Any) -> None:
        events.append(f"name {Path(new).name}")
        real_replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    import_dataset(open_source(str(layers)), tmp_path / "out")
    for number in range(5):
        named = events.index(f"name recipes-{number:05d}.parquet")
        assert f"sync recipes-{number:05d}.part" in events[:named]
        rest = events[named:]
        counted = rest.index("name state.json")
        assert "sync .out.importing" in rest[:counted]
    sentences = [at for at, event in enumerate(events) if event == "sync sentences.f32"]
    states = [at for at, event in enumerate(events) if event == "name state.json"]
    assert sentences[0] < states[1]  # the first state counts nothing
    published = events.index("name manifest.json")
    for name in ("data.mdb", "photo_counts.npy", "left_out.txt", "words.safetensors"):
        assert any(event.startswith("sync") and name in event for event in events[:published])


def test_a_map_that_is_too_small_grows(
    jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that met the map's end must be stored whole, once."""
    monkeypatch.setattr(photo_store, "FIRST_MAP", 1 << 14)
    import_dataset(open_source(str(jsonl)), tmp_path / "out")
    dataset = DatasetDirectory(tmp_path / "out")
    assert all(dataset.photo_count(index) == 1 for index in range(9))
    (tmp_path / "store").mkdir()
    with PhotoStore(tmp_path / "store") as store:
        for number in range(20):
            store.put([(number, bytes([number]) * 50_000)], done=number + 1)
        assert store.done == 20
        assert store.counts_and_notes(20)[0].tolist() == [1] * 20
    assert (tmp_path / "store" / "data.mdb").stat().st_size < 2 * MEGABYTE


COMMAND = "import sys; from hficma.cli import main; sys.exit(main())"


def limited(arguments: list[str], kind: int, amount: int) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(kind, (amount, amount))

    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "300"},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_an_import_needs_little_address_space(tmp_path: Path) -> None:
    """The map asked for a terabyte, which `ulimit -v` and small machines refuse."""
    arguments = ["data", "import", "sample:100", "--out", str(tmp_path / "out")]
    done = limited(arguments, resource.RLIMIT_AS, 6_000_000 * 1024)
    assert done.returncode == 0, done.stderr
    assert "100 recipes, 100 photos" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
@pytest.mark.parametrize("size", [300, 120_000])
def test_a_full_disk_is_one_line(tmp_path: Path, size: int) -> None:
    """In text, rows or photos: the line says where; with space it goes on."""
    arguments = ["data", "import", "sample:100", "--out", str(tmp_path / "out")]
    done = limited(arguments, resource.RLIMIT_FSIZE, size)
    assert done.returncode == 2, done.stderr
    messages = [line for line in done.stderr.splitlines() if "out:" in line]
    assert len(messages) == 1
    # LMDB calls a write that the disk took in part an error of input and output.
    assert re.search(r"cannot be written \((File too large|Input/output error)\)$", messages[0])
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    result = import_dataset(open_source("sample:100"), tmp_path / "out")
    assert (result.recipes, result.photos) == (100, 100)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_too_little_address_space_is_one_line(tmp_path: Path) -> None:
    """LMDB's own error was a traceback."""
    code = (
        "import resource, lmdb\nfrom pathlib import Path\n"
        "from hficma.data.store.photo_store import PhotoStore\n"
        "from hficma.errors import ArtifactError\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000, used + 30_000_000))\n"
        "try:\n"
        f"    PhotoStore(Path({str(tmp_path)!r}))\n"
        "except ArtifactError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs 64 MB of address space" in done.stdout, done.stderr


def test_an_unfinished_import_of_an_older_version(jsonl: Path, tmp_path: Path) -> None:
    """It kept its notes elsewhere: going on would lose them."""
    kill(jsonl, tmp_path / "out", recipes=99)
    (tmp_path / ".out.importing" / "notes.txt").unlink()
    with pytest.raises(ArtifactError, match="begun by an older version; pass restart"):
        import_dataset(open_source(str(jsonl)), tmp_path / "out")


def test_state_counts_only_what_shards_hold(jsonl: Path, tmp_path: Path) -> None:
    """The next run reads on behind what is counted: one more or less would shift every photo."""
    kill(jsonl, tmp_path / "out", recipes=5)
    state = json.loads((tmp_path / ".out.importing" / shards.STATE).read_text())
    assert state["shards"] == [2, 2]
    assert not state["complete"]
