"""Answers are what scoring every item with the torch model gives, in both directions."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Answer, Engine, Failure, Filter, IndexWriter, build_index
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.index.item_encoding import LEVELS, STORED_FORMS, EncodingPrecision, Level
from hficma.engine.native.library import has_kernels
from hficma.errors import ArtifactError, InputError
from tests.engine.datasets import NoiseDataset

RECIPES = NoiseDataset(60)
PHOTOS = NoiseDataset(24)
KINDS = ["hf_icma_bundle", "adamine_bundle"]


@pytest.fixture(scope="session")
def recipe_index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty recipes in three shards; never written to."""
    folder = tmp_path_factory.mktemp("indexes") / "recipes"
    return build_index(hf_icma_bundle, RECIPES, folder, shard_items=25)


def truth(bundle: Path, *, of: str, query: int) -> tuple[list[str], np.ndarray]:
    """Ids by falling S in the torch model, and their scores."""
    torch = pytest.importorskip("torch", reason="the truth is the torch model's")
    from hficma.model import load_model

    model = load_model(bundle)
    with torch.inference_mode():
        if of == "recipes":
            items = [RECIPES.recipe(i) for i in range(len(RECIPES))]
            scores = model.score(
                model.encode_images([PHOTOS.photo(query)]), model.encode_recipes(items)
            ).total[0]
        else:
            items = [PHOTOS.recipe(i) for i in range(len(PHOTOS))]
            photos = model.encode_images([PHOTOS.photo(i) for i in range(len(PHOTOS))])
            scores = model.score(photos, model.encode_recipes([RECIPES.recipe(query)])).total[:, 0]
    order = np.argsort(-scores.numpy(), kind="stable")
    return [items[i].id for i in order], scores.numpy()[order]


def ask(engine: Engine, query: int, **options: object) -> Answer:
    if engine.query_role == "image":
        return engine.search(image=PHOTOS.photo(query), **options)
    return engine.search(recipe=RECIPES.recipe(query), **options)


@pytest.mark.parametrize("runtime", ["onnxruntime", "native"])
@pytest.mark.parametrize("keep", LEVELS)
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_an_item_scores_the_same_in_any_company(
    keep: Level, of: ItemKind, runtime: str, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """A last bit more or less put the later of two equal recipes first in a certified answer."""
    if runtime == "native" and not has_kernels():
        pytest.skip("the kernels were not compiled")
    path = build_index(hf_icma_bundle, NoiseDataset(24), tmp_path / "index", of=of, keep=keep)
    with Engine.open(path, runtime=runtime, threads=1) as engine:
        # Alone, and two that share what is read; a photo's encoding has a batch of its own.
        twice = [PHOTOS.photo(0)] * 2

        def scored(expected: Filter | None) -> list[dict[str, float]]:
            answers = [ask(engine, 0, k=24, filter=expected)]
            if of == "recipes":
                answers += [next(iter(engine.search_many(twice, k=24, filter=expected)))]
            return [{hit.id: hit.score for hit in answer.hits} for answer in answers]

        together = scored(None)
        for first in range(24):
            some = Filter(ids=tuple(f"r{i}" for i in range(first, 24, 1 + first)))
            for few, all_ in zip(scored(some), together, strict=True):
                assert few.items() <= all_.items()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_exact_answers_equal_scoring_everything_in_torch(
    kind: str, of: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The reason the engine exists."""
    bundle: Path = request.getfixturevalue(kind)
    data = RECIPES if of == "recipes" else PHOTOS
    path = build_index(bundle, data, tmp_path / "index", of=of, shard_items=11)
    with Engine.open(path, threads=2) as engine:
        for query in range(3):
            answer = ask(engine, query, k=10, candidates=5, exact=True)
            ids, scores = truth(bundle, of=of, query=query)
            assert answer.certified == 10
            np.testing.assert_allclose([h.score for h in answer.hits], scores[:10], atol=2e-6)
            gaps = np.diff(scores[:11]) < -1e-5
            for place, hit in enumerate(answer.hits):
                if gaps[max(0, place - 1) : place + 1].all():
                    assert hit.id == ids[place]


@pytest.mark.parametrize(("keep", "side_precision"), STORED_FORMS)
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_every_level_and_precision_gives_the_same_scores(
    hf_icma_bundle: Path, tmp_path: Path, keep: Level, side_precision: EncodingPrecision, of: str
) -> None:
    """`--keep` is a choice of memory against time, never of answers."""
    data = RECIPES if of == "recipes" else NoiseDataset(7)
    path = build_index(
        hf_icma_bundle, data, tmp_path / "i", of=of, keep=keep, side_precision=side_precision
    )
    with Engine.open(path, threads=1) as engine:
        scores = {hit.id: hit.score for hit in ask(engine, 1, k=99).hits}
    if of == "recipes":
        ids, expected = truth(hf_icma_bundle, of=of, query=1)
        tolerance = {"fp32": 2e-6, "fp16": 5e-4, "int8": 2e-2, "int4": 5e-2}[side_precision]
        np.testing.assert_allclose([scores[i] for i in ids], expected, atol=tolerance)
    assert len(scores) == len(data)


@pytest.mark.parametrize("prefilter", ["Flat", "SQfp16", "SQ8", "IVF,SQ8", "HNSW"])
def test_prefilters_certify_only_what_they_may(
    hf_icma_bundle: Path, tmp_path: Path, prefilter: str
) -> None:
    """IVF and HNSW skip items; with `exact` they answer from the exact vectors."""
    path = build_index(hf_icma_bundle, RECIPES, tmp_path / "index", prefilter=prefilter)
    with Engine.open(path, threads=1) as engine:
        exact = ask(engine, 2, k=5, candidates=10, exact=True)
        plain = ask(engine, 2, k=5, candidates=10)
        everything = ask(engine, 2, k=5, candidates=1000)
    ids, _ = truth(hf_icma_bundle, of="recipes", query=2)
    assert [hit.id for hit in exact.hits] == ids[:5]
    assert exact.certified == everything.certified == 5
    assert [hit.id for hit in plain.hits[: plain.certified]] == ids[: plain.certified]
    if prefilter.startswith(("IVF", "HNSW")):
        assert plain.certified == 0


def test_filters_leave_k_answers_where_k_exist(recipe_index: Path) -> None:
    """Throwing answers away afterwards would leave fewer."""
    allowed = {
        recipe.id
        for recipe in map(RECIPES.recipe, range(60))
        if not any("butter" in line for line in recipe.ingredients) and recipe.category == "soup"
    }
    with Engine.open(recipe_index, threads=1) as engine:
        expected = Filter(without=("butter",), categories=("soup",))
        answer = ask(engine, 0, k=60, candidates=3, filter=expected)
        assert {hit.id for hit in answer.hits} == allowed
        assert answer.certified == answer.searched == len(allowed)
        nothing = ask(engine, 0, filter=Filter(having=("unicorn",)))
        assert (nothing.hits, nothing.certified, nothing.searched) == ((), 0, 0)


def test_a_batch_answers_as_one_at_a_time_and_survives_bad_queries(recipe_index: Path) -> None:
    """One bad photo in a thousand is reported and the others are answered, in order."""
    photos = [PHOTOS.photo(i) for i in range(5)]
    buffer = BytesIO()
    photos[1].save(buffer, "png")
    queries = [photos[0], buffer.getvalue(), b"no image", photos[2], Path("missing.jpg")]
    with Engine.open(recipe_index, threads=2) as engine:
        answers = list(engine.search_many(queries, k=4, batch=3))
        assert [type(answer) for answer in answers] == [Answer, Answer, Failure, Answer, Failure]
        for place, photo in ((0, photos[0]), (1, photos[1]), (3, photos[2])):
            alone = engine.search(image=photo, k=4)
            together = answers[place]
            assert isinstance(together, Answer)
            assert [hit.id for hit in together.hits] == [hit.id for hit in alone.hits]
            np.testing.assert_allclose(
                [hit.score for hit in together.hits], [hit.score for hit in alone.hits], atol=2e-6
            )
        failure = answers[4]
        assert isinstance(failure, Failure)
        assert failure.name == "missing.jpg"
        assert "cannot be read" in failure.error


@pytest.mark.parametrize("keep", LEVELS)
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_shared_candidates_score_as_unshared_ones(
    hf_icma_bundle: Path, tmp_path: Path, keep: Level, of: str
) -> None:
    """A batch brings what its queries share to memory: that must change nothing."""
    data = NoiseDataset(15)
    path = build_index(hf_icma_bundle, data, tmp_path / "i", of=of, keep=keep, shard_items=6)
    queries = [data.photo(i) if of == "recipes" else data.recipe(i) for i in range(4)]
    with Engine.open(path, threads=2) as engine:
        together = list(engine.search_many(queries, k=15, candidates=8, exact=True))
        for number, answer in enumerate(together):
            option = {"image" if of == "recipes" else "recipe": queries[number]}
            alone = engine.search(k=15, candidates=8, exact=True, **option)
            assert isinstance(answer, Answer)
            assert answer.certified == alone.certified == 15
            expected = {hit.id: hit.score for hit in alone.hits}
            for hit in answer.hits:
                assert hit.score == pytest.approx(expected[hit.id], abs=2e-6)


def test_shared_candidates_that_take_too_much_memory_are_logged(
    hf_icma_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A batch is slower then, and smaller ones would not be."""
    path = build_index(hf_icma_bundle, RECIPES, tmp_path / "i", keep="projections")
    queries = [PHOTOS.photo(i) for i in range(3)]
    with (
        Engine.open(path, runtime="onnxruntime", threads=1) as engine,
        caplog.at_level(logging.INFO, "hficma"),
    ):
        shared = list(engine.search_many(queries, k=5))
        assert "candidates that queries share" not in caplog.text
        monkeypatch.setattr("hficma.engine.retrieval.candidate_cache.CACHE_BYTES", 1000)
        unshared = list(engine.search_many(queries, k=5))
    assert "60 candidates that queries share would take" in caplog.text
    for one, other in zip(shared, unshared, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]


def test_many_threads_may_search_at_once(recipe_index: Path) -> None:
    """The engine is shared by a server's threads."""
    with Engine.open(recipe_index, threads=2) as engine:
        expected = [[hit.id for hit in ask(engine, i, k=5).hits] for i in range(4)]
        answered: dict[int, list[str]] = {}

        def search(number: int) -> None:
            answered[number] = [hit.id for hit in ask(engine, number % 4, k=5).hits]

        threads = [threading.Thread(target=search, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answered == {i: expected[i % 4] for i in range(12)}


def test_bad_queries_are_named(recipe_index: Path) -> None:
    """A recipe cannot search recipes; nothing is no query."""
    with Engine.open(recipe_index, threads=1) as engine:
        with pytest.raises(InputError, match="photos search"):
            engine.search(recipe=RECIPES.recipe(0))
        with pytest.raises(InputError, match="one of them"):
            engine.search()
        with pytest.raises(InputError, match="at least 1"):
            ask(engine, 0, k=0)
        with pytest.raises(InputError, match="cannot be read"):
            engine.search(image=Path("missing.jpg"))


def test_a_query_read_before_is_answered_as_if_read_in_time(recipe_index: Path) -> None:
    """A service reads photos while others are searched; the answer must not tell."""
    photo = PHOTOS.photo(3)
    with Engine.open(recipe_index, threads=1) as engine:
        query = engine.read(photo, name="photo")
        [answer] = engine.search_many([query], k=5)
        assert isinstance(answer, Answer)
        assert [hit.id for hit in answer.hits] == [
            hit.id for hit in engine.search(image=photo, k=5).hits
        ]
        [failure] = engine.search_many([query._replace(model_id="another")])
        assert "read for another model" in getattr(failure, "error", "")
        with pytest.raises(InputError, match="photos search"):
            engine.read(RECIPES.recipe(0), name="recipe")


def test_an_item_is_known_by_its_id_until_it_is_removed(recipe_index: Path, tmp_path: Path) -> None:
    """A link to a recipe that was taken out would show it still."""
    path = Path(shutil.copytree(recipe_index, tmp_path / "index"))
    with Index.open(path) as index:
        position = index.find("r7")
        assert position is not None
        assert index.recipe(position).id == "r7"
        assert index.find("nobody") is None
    with IndexWriter(path) as writer:
        writer.remove(["r7"])
    with Index.open(path) as index:
        assert index.find("r7") is None


def test_another_bundle_is_refused(
    recipe_index: Path, adamine_bundle: Path, tmp_path: Path
) -> None:
    """Its vectors would be compared with another model's."""
    with pytest.raises(ArtifactError, match="another model"):
        Engine.open(recipe_index, bundle=adamine_bundle)
    with pytest.raises(ArtifactError, match="another model"), IndexWriter(recipe_index) as writer:
        writer.add(RECIPES, bundle=adamine_bundle)


def test_searching_imports_no_torch(recipe_index: Path) -> None:
    """Serving installs none: the import is forbidden here."""
    program = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from PIL import Image
from hficma.engine import Engine
with Engine.open(Path({str(recipe_index)!r}), threads=1) as engine:
    assert len(engine.search(image=Image.new("RGB", (300, 200)), k=3).hits) == 3
"""
    subprocess.run([sys.executable, "-c", program], check=True)
