"""A stream becomes an index chunk after chunk, read no further than it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hficma.data.stream import RecipeStream
from hficma.engine import IndexWriter, build_index, index_info, verify_index
from hficma.engine.index.index_facts import SHARDS
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe
from tests.engine.datasets import NoiseDataset
from tests.engine.writing.test_build import ids

DATA = NoiseDataset(500)
SIZE = 5
"""Items a shard."""


def recipes(count: int, first: int = 0) -> Iterator[Recipe]:
    return (DATA.recipe(first + i) for i in range(count))


def finished(out: Path) -> int:
    """Shards that stand in an unfinished index."""
    folder = out.parent / f".{out.name}.building" / SHARDS
    return sum(not path.name.startswith(".") for path in folder.glob("*")) if folder.is_dir() else 0


def test_a_stream_gives_the_index_of_the_same_dataset(adamine_bundle: Path, tmp_path: Path) -> None:
    """Where recipes come from must not change an answer."""
    data = NoiseDataset(23)
    build_index(adamine_bundle, data, tmp_path / "data", shard_items=SIZE, prefilter="Flat")
    path = build_index(
        adamine_bundle, RecipeStream(recipes(23)), tmp_path / "stream", shard_items=SIZE,
        prefilter="Flat",
    )  # fmt: skip
    assert ids(path) == ids(tmp_path / "data") == [f"r{i}" for i in range(23)]
    assert not verify_index(path).problems
    for name in ("numbers", "global"):
        for shard in sorted((path / SHARDS).iterdir()):
            other = tmp_path / "data" / SHARDS / shard.name
            assert (shard / name).read_bytes() == (other / name).read_bytes()


def test_no_more_is_read_than_the_next_chunk(adamine_bundle: Path, tmp_path: Path) -> None:
    """Memory is bounded because a recipe is read only once those of the chunk before are on disk:
    a stream of any length is refused here as soon as it is read ahead."""
    out = tmp_path / "index"
    read = 0

    def watched() -> Iterator[Recipe]:
        nonlocal read
        for recipe in recipes(60):
            assert read < (finished(out) + 1) * SIZE, "read ahead of what is written"
            read += 1
            yield recipe

    path = build_index(adamine_bundle, RecipeStream(watched()), out, shard_items=SIZE)
    assert read == 60
    assert len(index_info(path)["shards"]) == 12
    with IndexWriter(path) as writer:
        assert writer.add(RecipeStream(recipes(12, first=60))) == 12
    assert ids(path) == [f"r{i}" for i in range(72)]


def test_a_killed_build_goes_on_with_the_same_stream(adamine_bundle: Path, tmp_path: Path) -> None:
    """Whoever pipes a file in again must not pay for the finished shards again."""
    out = tmp_path / "index"

    def cut(after: int) -> Iterator[Recipe]:
        yield from recipes(after)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(adamine_bundle, RecipeStream(cut(17)), out, shard_items=SIZE)
    standing = out.parent / f".{out.name}.building" / SHARDS / "000001" / "global"
    written = standing.stat().st_mtime_ns
    path = build_index(adamine_bundle, RecipeStream(recipes(21)), out, shard_items=SIZE)
    assert (path / SHARDS / "000001" / "global").stat().st_mtime_ns == written
    assert ids(path) == [f"r{i}" for i in range(21)]


def test_another_stream_does_not_continue_an_index(adamine_bundle: Path, tmp_path: Path) -> None:
    """Two streams may begin alike: their shards must never stand in one index."""
    out = tmp_path / "index"

    def cut() -> Iterator[Recipe]:
        yield from recipes(14)
        raise KeyboardInterrupt

    def other() -> Iterator[Recipe]:
        yield from recipes(SIZE)
        yield from recipes(20, first=100)

    with pytest.raises(KeyboardInterrupt):
        build_index(adamine_bundle, RecipeStream(cut()), out, shard_items=SIZE)
    with pytest.raises(ArtifactError, match="r5 is not what it was"):
        build_index(adamine_bundle, RecipeStream(other()), out, shard_items=SIZE)
    assert not out.exists()
    stream = RecipeStream(other())
    path = build_index(adamine_bundle, stream, out, shard_items=SIZE, restart=True)
    assert len(ids(path)) == 25


def test_a_stream_that_goes_on_behind_its_old_end(
    adamine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last shard was finished with fewer items: those that follow would be passed over."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "index"
    with monkeypatch.context() as patched:
        patched.setattr("hficma.engine.writing.unfinished_build.UnfinishedBuild.complete", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(adamine_bundle, RecipeStream(recipes(12)), out, shard_items=SIZE)
    path = build_index(adamine_bundle, RecipeStream(recipes(19)), out, shard_items=SIZE)
    assert ids(path) == [f"r{i}" for i in range(19)]


def test_a_short_stream_is_planned_as_a_dataset(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Its size is known once it ended; of a longer one nothing may be assumed."""
    short = build_index(hf_icma_bundle, RecipeStream(recipes(9)), tmp_path / "short")
    long = build_index(hf_icma_bundle, RecipeStream(recipes(9)), tmp_path / "long", shard_items=4)
    assert (index_info(short)["keep"], index_info(short)["prefilter"]) == ("tables", "Flat")
    assert (index_info(long)["keep"], index_info(long)["prefilter"]) == ("tokens", "SQfp16")


def test_a_stream_of_photos_is_indexed(
    hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of photos are relative to where the command runs."""
    monkeypatch.chdir(tmp_path)
    for number in range(7):
        DATA.photo(number).save(f"{number}.png")
    path = build_index(
        hf_icma_bundle, RecipeStream(recipes(7)), tmp_path / "i", of="images", shard_items=3
    )
    assert ids(path) == [f"r{i}" for i in range(7)]


def test_an_empty_stream_is_an_error(adamine_bundle: Path, tmp_path: Path) -> None:
    """An index of nothing answers nothing."""
    with pytest.raises(InputError, match="no usable recipe"):
        build_index(adamine_bundle, RecipeStream(()), tmp_path / "i")
    assert list(tmp_path.iterdir()) == []
