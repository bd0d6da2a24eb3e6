"""The contact sheet shows what the engine answers, in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hficma.benchmarks.common.workload import query_positions
from hficma.benchmarks.contact.contact_sheet import answer_sheet, main
from hficma.engine import Engine, build_index
from hficma.errors import InputError
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

DATA = NoiseDataset(14, without_photo=(3,))


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sheet")
    bundle = tiny_bundle(folder)
    return {of: build_index(bundle, DATA, folder / of, of=of) for of in ("recipes", "images")}


def test_rows_are_the_engine_s_answers(indexes: dict[str, Path]) -> None:
    """A sheet that showed others would prove nothing."""
    sheet = answer_sheet(indexes["recipes"], DATA, [2, 5], shown=3, threads=1)
    with Engine.open(indexes["recipes"], threads=1) as engine:
        for row, position in zip(sheet.rows, [2, 5], strict=True):
            hits = engine.search(image=DATA.photo(position), k=14).hits
            assert [card.score for card in row.answers] == [hit.score for hit in hits[:3]]
            assert [card.title for card in row.answers] == [hit.title for hit in hits[:3]]
            own = next(hit.rank for hit in hits if hit.id == f"r{position}")
            assert row.own_rank == own
            assert [card.own for card in row.answers] == [own == rank for rank in (1, 2, 3)]
            assert row.standing == f"the right one: rank {own}"
            assert row.bars[0] == pytest.approx(1.0)


def test_photos_of_answers_are_the_dataset_s(indexes: dict[str, Path]) -> None:
    """Other photos than those found would be shown as answers."""
    sheet = answer_sheet(indexes["images"], DATA, [0], shown=2, threads=1)
    assert all(card.photo for card in sheet.rows[0].answers)
    assert sheet.rows[0].query.ingredients == DATA.recipe(0).ingredients
    elsewhere = NoiseDataset(1, first=50)
    lacking = answer_sheet(indexes["images"], elsewhere, [0], shown=2, threads=1)
    assert not any(card.photo for card in lacking.rows[0].answers)
    assert lacking.rows[0].own_rank is None
    assert lacking.rows[0].standing == "the right one: not in this index"


def test_a_sheet_says_in_plain_words_how_many_answers_are_right(indexes: dict[str, Path]) -> None:
    """A sentence that must be read twice is not read."""
    sheet = answer_sheet(indexes["recipes"], DATA, [2, 5], shown=14, threads=1)
    assert (
        sheet.summary == "for 2 of 2 photos, their own recipe is among the 14 shown of 14 recipes"
    )
    one = replace(sheet, rows=sheet.rows[:1])
    assert one.summary == "the photo's own recipe is among the 14 shown of 14 recipes"
    elsewhere = answer_sheet(indexes["images"], NoiseDataset(1, first=50), [0], shown=2, threads=1)
    assert elsewhere.summary == "the recipe's own photo is not among the 2 shown of 13 photos"


def test_the_page_stands_alone(
    indexes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is sent around and opened offline; titles are text, never markup."""

    class Marked(NoiseDataset):
        def recipe(self, index: int) -> object:
            return replace(super().recipe(index), title="<b>soup</b> & more")

    monkeypatch.setattr(
        "hficma.benchmarks.contact.contact_sheet.open_dataset", lambda spec: Marked(14)
    )  # as --data would open it
    main(
        recipes=indexes["recipes"], images=indexes["images"], data="noise",
        out=tmp_path / "sheet.html", png=tmp_path / "sheet.png",
        queries=3, shown=4, seed=0, threads=1,
    )  # fmt: skip
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 3 + 3 * 4
    assert page.count('class="row"') == 6
    assert "http" not in page
    assert "&lt;b&gt;soup" in page
    assert "<b>soup" not in page
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 1000
    assert capsys.readouterr().out.count(" of 3 ") == 2


def test_queries_are_test_items_with_photos() -> None:
    """What was trained on would look better than it is."""
    rows = query_positions(DATA, 99, seed=0)
    assert sorted(rows) == [row for row in range(14) if row != 3]
    assert query_positions(DATA, 5, seed=0) == query_positions(DATA, 5, seed=0)
    with pytest.raises(InputError, match="no photos"):
        query_positions(NoiseDataset(2, without_photo=(0, 1)), 5, seed=0)
