"""Building survives kills, bad items and full disks; memory holds one shard at most."""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Bundle, Engine, build_index, index_info, verify_index
from hficma.engine.encoder import EncodedItems, encode
from hficma.engine.index.index import Index
from hficma.engine.writing.shard_writer import ShardWriter
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe
from tests.engine.datasets import NoiseDataset


class Interrupted(NoiseDataset):
    """Reading ends as a kill would, after a number of recipes."""

    def __init__(self, count: int, after: int | None) -> None:
        super().__init__(count)
        self.after = after
        self.read: list[int] = []

    def recipe(self, index: int) -> Recipe:
        if len(self.read) == self.after:
            raise KeyboardInterrupt
        self.read.append(index)
        return super().recipe(index)


LOOKED_AT = 30
"""Recipes of a dataset of 30 that are read to tell it from others, before any is encoded."""


class Renamed(NoiseDataset):
    """Other recipes under the name and size of the first."""

    name = NoiseDataset(30).name


def unfinished(out: Path) -> Path:
    return out.parent / f".{out.name}.building"


def when_written(index: Path) -> list[int]:
    """The times of its shards' files, which tell whether one was made again."""
    return [path.stat().st_mtime_ns for path in sorted(index.glob("shards/[0-9]*/global"))]


def ids(path: Path) -> list[str]:
    index = Index.open(path)
    return [
        name
        for shard in index.shards
        for _, name in sorted(shard.records.ids(range(shard.count)).items())
    ]


def test_a_killed_build_goes_on_at_the_first_missing_shard(
    adamine_bundle: Path, tmp_path: Path
) -> None:
    """Hours of encoding would be lost."""
    data = Interrupted(30, after=LOOKED_AT + 25)
    out = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(adamine_bundle, data, out, shard_items=10)
    assert not out.exists()
    written = when_written(unfinished(out))
    assert len(written) == 2
    data.after = None
    build_index(adamine_bundle, data, out, shard_items=10)
    assert when_written(out)[:2] == written
    assert ids(out) == [f"r{i}" for i in range(30)]
    assert not verify_index(out).problems
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_unfinished_work_of_other_inputs_is_kept_until_it_is_given_up(
    adamine_bundle: Path, tmp_path: Path
) -> None:
    """Shards of two datasets must never stand in one index, nor a night's work go for a typo."""
    out = tmp_path / "index"
    for later, options, reason in (
        (NoiseDataset(15, first=100), {}, "the dataset was noise:0:30, is noise:100:15"),
        (Renamed(30, first=200), {}, "the recipes of the dataset changed"),
        (NoiseDataset(30), {"prefilter": "SQ8"}, "the prefilter was Flat, is SQ8"),
    ):
        with pytest.raises(KeyboardInterrupt):
            build_index(adamine_bundle, Interrupted(30, LOOKED_AT + 25), out, shard_items=10)
        written = when_written(unfinished(out))
        with pytest.raises(ArtifactError, match=f"2 shards are done.*{reason}.*restart"):
            build_index(adamine_bundle, later, out, shard_items=10, **options)
        assert when_written(unfinished(out)) == written
        build_index(adamine_bundle, later, out, shard_items=10, restart=True, **options)
        assert ids(out) == [later.recipe(i).id for i in range(len(later))]
        shutil.rmtree(out)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_was_mended_meanwhile_is_seen(adamine_bundle: Path, tmp_path: Path) -> None:
    """The index would hold the line as it was before, and nobody could tell."""

    class Mended(NoiseDataset):
        def recipe(self, index: int) -> Recipe:
            recipe = super().recipe(index)
            return replace(recipe, title="Mended") if index == 301 else recipe

    data, out = NoiseDataset(600), tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(adamine_bundle, Interrupted(600, after=300 + 550), out, shard_items=500)
    assert len(when_written(unfinished(out))) == 1
    with pytest.raises(ArtifactError, match=r"r301 is not what it was.*restart"):
        build_index(adamine_bundle, Mended(600), out, shard_items=500)
    build_index(adamine_bundle, data, out, shard_items=500)
    assert len(ids(out)) == 600


def test_bad_items_are_told_and_left_out(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """One bad line in a million must not cost the index; `strict` makes it an error."""
    data = NoiseDataset(12, bad=(3, 4), without_photo=(0,))
    messages: list[str] = []
    build_index(hf_icma_bundle, data, tmp_path / "i", on_bad=messages.append, shard_items=2)
    assert len(messages) == 2
    assert "line 3" in messages[0]
    assert index_info(tmp_path / "i")["items"] == 10
    with pytest.raises(InputError, match="line 3"):
        build_index(hf_icma_bundle, data, tmp_path / "strict", strict=True)
    build_index(hf_icma_bundle, data, tmp_path / "photos", of="images")
    assert "r0" not in ids(tmp_path / "photos")
    assert len(ids(tmp_path / "photos")) == 9


def test_an_id_enters_once(adamine_bundle: Path, tmp_path: Path) -> None:
    """Two items of one id could not be told apart in answers or removed."""

    class Twice(NoiseDataset):
        def recipe(self, index: int) -> Recipe:
            return super().recipe(index % 7)

    messages: list[str] = []
    build_index(adamine_bundle, Twice(20), tmp_path / "i", shard_items=5, on_bad=messages.append)
    assert ids(tmp_path / "i") == [f"r{i}" for i in range(7)]
    assert len(messages) == 13


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["vectors", "tokens"])
def test_items_that_are_no_numbers_are_left_out(
    hf_icma_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    value: float,
) -> None:
    """A NaN is neither below nor above any score: one such item would spoil every answer. An
    encoder in a narrow precision can overflow for one recipe among thousands."""

    def overflowing(bundle: Bundle, contents: list[object]) -> EncodedItems:
        encoded = encode(bundle, contents)  # type: ignore[arg-type]
        assert encoded.encodings is not None
        array = encoded.vectors if where == "vectors" else encoded.encodings.arrays["tokens"]
        array = np.array(array)
        array[2].flat[3] = value
        if where == "vectors":
            return encoded._replace(vectors=array)
        return encoded._replace(encodings=encoded.encodings._replace(arrays={"tokens": array}))

    monkeypatch.setattr("hficma.engine.writing.encoding_pipeline.encode", overflowing)
    messages: list[str] = []
    data, out = NoiseDataset(6), tmp_path / "i"
    build_index(hf_icma_bundle, data, out, keep="projections", on_bad=messages.append)
    assert ids(out) == ["r0", "r1", "r3", "r4", "r5"]
    assert len(messages) == 1
    assert re.match(r"r2 \(.*\): the model makes no finite numbers of it", messages[0])
    with pytest.raises(InputError, match="no finite numbers"):
        build_index(hf_icma_bundle, data, tmp_path / "strict", strict=True)


def test_nothing_usable_is_an_error(adamine_bundle: Path, tmp_path: Path) -> None:
    """An empty index would answer everything with nothing."""
    data = NoiseDataset(3, without_photo=(0, 1, 2))
    with pytest.raises(InputError, match="no usable photo"):
        build_index(adamine_bundle, data, tmp_path / "i", of="images")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_is_finished(
    adamine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in the third shard; the next call goes on from there."""
    append, calls = ShardWriter.append, []

    def full(self: ShardWriter, *arguments: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, *arguments)  # type: ignore[arg-type]

    out = tmp_path / "index"
    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "append", full)
        with pytest.raises(ArtifactError, match=r"index: cannot be written \(No space.*kept"):
            build_index(adamine_bundle, NoiseDataset(30), out, shard_items=10)
    assert not out.exists()
    written = when_written(unfinished(out))
    build_index(adamine_bundle, NoiseDataset(30), out, shard_items=10)
    assert when_written(out)[:2] == written


def test_wrong_options_are_named(adamine_bundle: Path, tmp_path: Path) -> None:
    """Before anything is encoded."""
    data, out = NoiseDataset(3), tmp_path / "i"
    with pytest.raises(InputError, match="FAISS"):
        build_index(adamine_bundle, data, out, prefilter="nonsense")
    with pytest.raises(InputError, match="no local part"):
        build_index(adamine_bundle, data, out, keep="tables")
    out.mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        build_index(adamine_bundle, data, out)


def test_damage_is_found(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """A flipped byte by `verify`, a shortened file when opening."""
    out = build_index(hf_icma_bundle, NoiseDataset(5), tmp_path / "i", keep="projections")
    assert verify_index(out).encoded_again == 5
    query = out / "shards" / "000000" / "query"
    content = bytearray(query.read_bytes())
    content[7] ^= 1
    query.write_bytes(content)
    assert "query" in verify_index(out).problems[0]
    query.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="damaged"):
        Engine.open(out)


def test_info_tells_the_error_of_int8_encodings(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Who trades precision for memory must see what it costs."""
    out = build_index(
        hf_icma_bundle, NoiseDataset(9), tmp_path / "i", keep="tables", side_precision="int8"
    )
    errors = index_info(out)["side_errors"]
    assert set(errors) == {"query", "key", "value", "gate", "fuse", "table"}
    assert all(0 < error["relative_rms"] < 0.02 for error in errors.values())
