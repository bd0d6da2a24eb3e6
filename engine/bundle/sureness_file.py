"""Reads the `sureness.json` of a run or a bundle: what its model's scores say of being right."""

from __future__ import annotations

from pathlib import Path

from hficma.artifacts.json_fields import Fields, strict_json
from hficma.artifacts.manifest import Manifest, verified_file
from hficma.errors import ArtifactError
from hficma.limits import MEGABYTE, read_regular_file
from hficma.sureness import FORMAT, SURENESS_FILE, ScoreCalibration, Stretch, SurenessFacts

LARGEST = 1e6
"""Of any number in it: scores times it stay far inside a float's range."""


def read_sureness(directory: Path, manifest: Manifest) -> SurenessFacts | None:
    """Read the calibration of a run or a bundle; None where it has none.

    Args:
        directory: of the run or bundle.
        manifest: of the directory.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    if SURENESS_FILE not in manifest.files:
        return None
    path = verified_file(directory, manifest, SURENESS_FILE)
    try:
        return _facts(strict_json(read_regular_file(path, limit=MEGABYTE)))
    except ValueError as error:
        raise ArtifactError(f"{path}: is damaged ({error})") from error


def _facts(record: object) -> SurenessFacts:
    """Return what `SurenessFacts.to_json` wrote; raises ValueError."""
    fields = Fields(record, "it", ("format", "image", "recipe", "pairs", "folds"))
    fields.integer("format", FORMAT, FORMAT)
    return SurenessFacts(
        image=_calibration(fields.object("image")),
        recipe=_calibration(fields.object("recipe")),
        pairs=fields.integer("pairs"),
        folds=fields.integer("folds"),
    )


def _calibration(fields: Fields) -> ScoreCalibration:
    """Return the calibration of queries of one role; raises ValueError."""
    return ScoreCalibration(
        slope=_number(fields, "slope", above=0.0),
        offset=_number(fields, "offset"),
        spread=_number(fields, "spread", above=0.0),
        crowd=_number(fields, "crowd", above=0.0),
        first=_stretch(fields.object("first")),
        first_ten=_stretch(fields.object("first_ten")),
        sure=_number(fields, "sure"),
    )


def _stretch(fields: Fields) -> Stretch:
    """Return a stretch; raises ValueError."""
    return Stretch(
        slope=_number(fields, "slope", above=0.0),
        shift=_number(fields, "shift"),
        crowding=fields.number("crowding"),
    )


def _number(fields: Fields, key: str, *, above: float = -LARGEST) -> float:
    """Return a number above a bound and no larger than `LARGEST`; raises ValueError."""
    value = fields.number(key, -LARGEST)
    if not above < value <= LARGEST:
        raise ValueError(f"{key} is {value:g}: must be above {above:g}, at most {LARGEST:g}")
    return value
