"""Photos that were made too small when they came in are said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from hficma.data.dataset import open_dataset
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.training.config.option_files import load_options
from hficma.training.data.photo_reading import note_enlarged_photos


@pytest.mark.parametrize(("side", "expected"), [(256, 1), (330, 1), (331, 0)])
def test_enlarged_photos_are_noted(side: int, expected: int, tmp_path: Path) -> None:
    """An encoder of many pixels would learn from few of them, and nothing would tell."""
    Image.new("RGB", (400, 400), "red").save(tmp_path / "p.jpg")
    record = {"id": "a", "title": "A", "ingredients": ["b"], "image": "p.jpg"}
    (tmp_path / "r.jsonl").write_text(json.dumps(record) + "\n")
    source, notes = str(tmp_path / "r.jsonl"), list[str]()
    import_dataset(open_source(source), tmp_path / "dataset", photo_side=side)
    # The corners of EfficientNet-Lite2's five crops come of photos scaled to 1.27 x 260.
    options = load_options("photos", [])
    note_enlarged_photos(open_dataset(str(tmp_path / "dataset")), options, notes.append)
    assert len(notes) == expected
    assert all("photo_side=331" in one for one in notes)
    note_enlarged_photos(open_dataset(source), options, notes.append)
    assert len(notes) == expected, "photos that are read whole"
