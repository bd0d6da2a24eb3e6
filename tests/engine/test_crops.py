"""Crops in an index, a search and an evaluation: one vector of a photo, whoever makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Engine, build_index
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import encode_photos
from hficma.engine.index.index_facts import IndexFacts
from hficma.errors import InputError
from hficma.images.crops import crops
from tests.engine.datasets import NoiseDataset

DATA = NoiseDataset(5)


@pytest.mark.parametrize("kind", ["hf_icma", "adamine"])
def test_an_index_says_how_many_and_its_queries_take_as_many(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A query of one crop against an index of five compares vectors of two kinds."""
    bundle: Path = request.getfixturevalue(f"{kind}_bundle")
    index = build_index(bundle, DATA, tmp_path / "index", crops=5, threads=1)
    assert IndexFacts.read(index).crops == 5
    photo = DATA.photo(2)
    with Engine.open(index, bundle=bundle, threads=1) as engine:
        five = engine.search(image=photo, keep_query=True).query
        vectors = engine.encode(images=[photo])
    with Engine.open(index, bundle=bundle, threads=1, crops=1) as engine:
        one = engine.search(image=photo, keep_query=True).query
    assert five is not None
    assert one is not None
    opened = Bundle.open(bundle)
    views = crops(photo, opened.image_input, 5)
    each = encode_photos(opened, views)
    mean = each.vectors.mean(axis=0)
    if opened.facts.model.unit_vectors:
        mean /= np.linalg.norm(mean)
    assert np.allclose(five.vector, mean, atol=1e-5)
    assert np.allclose(vectors[0], mean, atol=1e-5)
    assert np.allclose(one.vector, each.vectors[0], atol=1e-5)
    if five.encodings is not None and one.encodings is not None:
        for name, array in five.encodings.arrays.items():
            assert np.allclose(array, one.encodings.arrays[name], atol=1e-4), "the centre's tokens"


def test_photos_are_indexed_by_the_same_vector(adamine_bundle: Path, tmp_path: Path) -> None:
    """The index's side averages as the query's does; one crop leaves the manifest as it was."""
    index = build_index(adamine_bundle, DATA, tmp_path / "five", of="images", crops=5, threads=1)
    plain = build_index(adamine_bundle, DATA, tmp_path / "one", of="images", threads=1)
    assert "crops" not in IndexFacts.read(plain).to_json()
    bundle = Bundle.open(adamine_bundle)
    with Engine.open(index, bundle=adamine_bundle, threads=1) as engine:
        stored = engine.index.shards[0].vectors
        for place in range(len(stored)):
            views = crops(DATA.photo(place), bundle.image_input, 5)
            expected = encode_photos(bundle, views[None]).vectors[0]
            assert np.allclose(stored[place], expected, atol=1e-5)
    with pytest.raises(InputError, match="2 crops: there can be 1 or 5"):
        build_index(adamine_bundle, DATA, tmp_path / "two", crops=2)
    assert not (tmp_path / "two").exists()
