"""Evaluation, comparison and extraction of a trained run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from hficma.data.dataset import open_dataset, positions
from hficma.errors import ArtifactError, InputError
from hficma.images import ImageInput, preprocess
from hficma.images.crops import crops
from hficma.metrics import figures, ranks
from hficma.model import load_model
from hficma.progress import Progress
from hficma.training import compare, evaluate, evaluation, extract
from hficma.training.data.photo_cache import cached_features
from hficma.training.encoding import encode_cached, encode_positions

Trained = Callable[..., Path]


def test_evaluation_is_the_models_own_ranking(reference: Path) -> None:
    """Through another path: encode everything at once, score, rank by hand."""
    result = evaluate(reference, split="test")
    dataset = open_dataset("sample:100")
    rows = positions(dataset, ("test",), with_photo=True)
    model = load_model(reference)
    with torch.inference_mode():
        image = model.encode_images([dataset.photo(int(row)) for row in rows])
        recipe = model.encode_recipes([dataset.recipe(int(row)) for row in rows])
        scores = model.score(image, recipe).total.numpy()
    assert result.items == result.bag_size == len(rows)
    for direction, table in (("image_to_recipe", scores), ("recipe_to_image", scores.T)):
        expected = figures(ranks(table))
        assert result.total[direction]["medR"] == (expected.median_rank, None)
        assert result.total[direction]["R@5"][0] == pytest.approx(expected.recall[5])


def test_evaluation_repeats_and_is_kept_in_the_run(reference: Path) -> None:
    """Random crops or a shuffle in evaluation make every call another number."""
    first = evaluate(reference, split="val", prefilter=3, name="mine")
    assert evaluate(reference, split="val", prefilter=3, name="mine") == first
    record = json.loads((reference / "evaluations" / "mine.json").read_text())
    assert (
        record["total"]["image_to_recipe"]["medR"][0] == first.total["image_to_recipe"]["medR"][0]
    )
    assert "fewer than the 1,000 pairs of a bag" in first.notes[0]
    assert len(first.rows()) == 8
    assert f"n = {first.items}" in first.notes[0]
    assert "chance: medR" in first.notes[0]
    cells = [cell for row in first.rows() for cell in row]
    assert not any("±" in cell for cell in cells), "one bag has no deviation"
    assert cells[2].endswith("]"), "but an interval"


def test_crops_are_averaged_as_a_search_averages_them(reference: Path) -> None:
    """Figures of another vector than the index holds would say nothing of it."""
    model, dataset = load_model(reference), open_dataset("sample:100")
    rows = positions(dataset, ("test",), with_photo=True)[:3]
    image = encode_positions(model, dataset, rows, Progress(), crops=5).image
    for number, row in enumerate(rows.tolist()):
        pixels = torch.from_numpy(crops(dataset.photo(row), model.image_input, 5))
        with torch.inference_mode():
            each = model.image_tokens(model.image_features(pixels))
        assert model.config.unit_vectors
        mean = torch.nn.functional.normalize(each.global_.mean(dim=0), dim=0)
        torch.testing.assert_close(image.global_[number], mean)
        assert image.tokens is not None
        assert each.tokens is not None
        torch.testing.assert_close(image.tokens[number], each.tokens[0])
    evaluate(reference, split="val", crops=5)
    assert (reference / "evaluations" / "val-1k-5-crops.json").is_file()
    with pytest.raises(InputError, match="4 crops: there can be 1 or 5"):
        evaluate(reference, crops=4)


def test_pairs_of_the_cache_are_encoded_as_their_photos_are(
    reference: Path, tmp_path: Path
) -> None:
    """Calibrated on other vectors than a search's, chances would be of another model."""
    model, dataset = load_model(reference), open_dataset("sample:100")
    rows = positions(dataset, ("train", "val"), with_photo=True)[:6]
    model.config = replace(model.config, image=replace(model.config.image, crops=5))
    photos = cached_features(model, dataset, rows, tmp_path, lambda _: None, crops=5)
    places = np.array([4, 1])
    cached = encode_cached(model, photos, dataset, rows, places)
    direct = encode_positions(model, dataset, rows[places], Progress())
    assert cached.usable.tolist() == [True, True]
    torch.testing.assert_close(cached.image.global_, direct.image.global_, atol=1e-3, rtol=0)
    assert torch.equal(cached.recipe.global_, direct.recipe.global_)


def test_bags_that_overlap_are_said_to(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten bags of the same few pairs agree with each other, not with new pairs."""
    monkeypatch.setitem(evaluation.SETUPS, "1k", 3)
    result = evaluate(reference, split="test", setup="1k")
    assert result.bag_count == 10
    assert result.intervals is None
    assert "±" in result.rows()[0][2]
    assert "overlap" in result.notes[0]


def test_evaluation_says_what_it_cannot_do(reference: Path) -> None:
    with pytest.raises(InputError, match="1k, 10k, all"):
        evaluate(reference, setup="5k")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="train, val or test"):
        evaluate(reference, split="tets")


def test_compare_ranks_runs_and_names_what_differs(
    reference: Path, trained: Trained, tmp_path: Path
) -> None:
    other = trained("compared", "trainer.epochs=1", "optimizer.lr=1e-6")
    comparison = compare([other, reference], page=tmp_path / "page.html")
    assert [row.place for row in comparison.rows] in ([1, 2], [1, 1])
    assert comparison.differences["optimizer.lr"]["compared"] == 1e-6
    assert "model.width" not in comparison.differences
    assert (tmp_path / "page.html").is_file()
    row = compare([reference], "R@10").rows[0]
    assert row.queries == len(positions(open_dataset("sample:100"), ("val",), with_photo=True))
    assert row.interval is not None
    assert row.interval[0] <= row.score <= row.interval[1]
    assert row.validations == 3, "validate_every is 3: epochs 1, 3 and 4"
    by_rank = compare([other, reference], "image_to_recipe.medR").rows
    assert by_rank[0].score <= by_rank[1].score, "a smaller median rank is better"
    with pytest.raises(InputError, match="recall_sum"):
        compare([reference], "recall_at_1")


def test_a_run_that_validates_nothing_is_compared_by_its_evaluation(
    reference: Path, trained: Trained, tmp_path: Path
) -> None:
    """The preset that most people take could not be compared with anything."""
    blind = trained("blind", "trainer.epochs=1", "trainer.validation_pairs=0", "trainer.keep=last")
    with pytest.raises(InputError, match="never validated, so evaluate it on test pairs"):
        compare([blind])
    measured = shutil.copytree(reference, tmp_path / "measured")
    shutil.rmtree(measured / "evaluations", ignore_errors=True)
    (before,) = compare([measured]).rows
    comparison = compare([blind, measured])
    assert comparison.not_validated == ("blind",)
    assert comparison.rows == (before,)
    assert not comparison.tests, "nothing was evaluated yet"

    results = {"blind": evaluate(blind), "measured": evaluate(measured, name="another-name")}
    evaluate(measured, split="val")
    for metric, figure in (("R@5", "R@5"), ("image_to_recipe.medR", "medR")):
        (ranking,) = compare([blind, measured], metric).tests
        scores = {name: one.total["image_to_recipe"][figure][0] for name, one in results.items()}
        assert {row.run: row.score for row in ranking.rows} == scores
        assert [row.score for row in ranking.rows] == sorted(
            scores.values(), reverse=figure != "medR"
        )
        assert all(row.interval is not None for row in ranking.rows)
        assert not ranking.missing
    (ranking,) = compare([blind, measured]).tests
    assert ranking.pairs.items == results["blind"].items

    evaluate(blind, setup="all")
    by_setup = {ranking.pairs.setup: ranking for ranking in compare([blind, measured]).tests}
    assert by_setup["all"].missing == (measured,), "of another setup"


def test_figures_of_weights_that_a_run_no_longer_has_are_not_compared(
    reference: Path, tmp_path: Path
) -> None:
    """A run that was resumed would be ranked by what it was before."""
    run = shutil.copytree(reference, tmp_path / "run")
    evaluate(run)
    (ranking,) = compare([run]).tests
    file = run / "evaluations" / "test-1k.json"
    record = json.loads(file.read_text())
    assert record["epoch"] == ranking.rows[0].epoch
    file.write_text(json.dumps({**record, "epoch": 99}))
    assert not compare([run]).tests
    del record["epoch"]
    file.write_text(json.dumps(record))
    (ranking,) = compare([run]).tests
    assert ranking.rows[0].epoch is None, "older versions did not note it"
    file.write_text('{"split": "test"}')
    with pytest.raises(ArtifactError, match=r"test-1k\.json: is no evaluation"):
        compare([run])


def test_extract_writes_every_item_in_order(reference: Path, tmp_path: Path) -> None:
    """The published script drops the last batch and leaves its rows uninitialised."""
    out = extract(reference, tmp_path / "features.safetensors", split="test")
    dataset = open_dataset("sample:100")
    rows = positions(dataset, ("test",), with_photo=True)
    model = load_model(reference)
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["ids"]) == [dataset.recipe(int(row)).id for row in rows]
        assert file.metadata()["model_id"] == model.model_id
        photos, recipes = file.get_tensor("image.global"), file.get_tensor("recipe.global")
        tokens, offsets = file.get_tensor("recipe.tokens"), file.get_tensor("recipe.offsets")
    last = dataset.recipe(int(rows[-1]))
    expected = model.encode_recipes([last])
    torch.testing.assert_close(recipes[-1], expected.global_[0])
    assert expected.tokens is not None
    torch.testing.assert_close(tokens[offsets[-2] :], expected.tokens[0])
    torch.testing.assert_close(
        photos[0], model.encode_images([dataset.photo(int(rows[0]))]).global_[0]
    )
    with pytest.raises(InputError, match="exists already"):
        extract(reference, out)


def test_extract_reads_a_bare_folder_of_photos(reference: Path, tmp_path: Path) -> None:
    photo = open_dataset("sample:100").photo(0)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    photo.save(tmp_path / "photos" / "sub" / "a.png")
    (tmp_path / "photos" / "b.jpg").write_bytes(b"no photo")
    out = extract(reference, tmp_path / "own.safetensors", images=tmp_path / "photos")
    with safe_open(out, "np") as file:
        assert json.loads(file.metadata()["ids"]) == ["sub/a.png"]
        assert "recipe.global" not in file.keys()  # noqa: SIM118 - no mapping
        assert file.get_tensor("image.global").shape[0] == 1
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(InputError, match="is no folder"):
        extract(reference, tmp_path / "x.safetensors", images=tmp_path / "photos")


@pytest.mark.parametrize(
    "shown",
    [
        ImageInput(),
        ImageInput(size=260, short_side=277, interpolation="bicubic", longer_side="truncate"),
        ImageInput(size=24, short_side=24),
        ImageInput(size=40, short_side=41, resize="squash"),
    ],
)
def test_centre_of_the_cached_square_is_the_serving_crop(shown: ImageInput) -> None:
    """Trained on one crop and served another, a model loses recall for nothing."""
    from hficma.training.data.photo_views import centre_crops, square

    for index in range(3):
        photo = open_dataset("sample:100").photo(index).resize((301 + 17 * index, 257 + index))
        seen = preprocess(photo, shown)
        assert np.array_equal(centre_crops(square(photo, shown)[None], shown)[0], seen)
