"""docs/safety.md against the constants that it quotes."""

import importlib
import re
from pathlib import Path

from hficma import limits

PAGE = (Path(__file__).parents[1] / "docs" / "safety.md").read_text(encoding="utf-8")
UNITS = {"MB": 1e6, "GB": 1e9, "megapixels": 1e6, "": 1}
_NUMBER = r"(?P<number>[\d,]+)(?: (?P<unit>MB|GB|megapixels))? "
QUOTED = [
    *re.finditer(rf"\| {_NUMBER}\| `(?P<constant>[\w.]+)` \|$", PAGE, re.MULTILINE),
    *re.finditer(rf"`(?P<constant>[\w.]+)` = {_NUMBER}", PAGE),
]


def _value(constant):
    module, _, name = constant.rpartition(".")
    return getattr(importlib.import_module(f"hficma.{module}"), name)


def test_every_limit_on_the_page_is_the_one_in_the_code():
    stated = {
        match["constant"]: float(match["number"].replace(",", "")) * UNITS[match["unit"] or ""]
        for match in QUOTED
    }
    assert len(stated) > 25
    assert stated == {constant: _value(constant) for constant in stated}


def test_every_number_of_the_module_of_limits_is_on_the_page():
    numbers = {
        f"limits.{name}"
        for name, value in vars(limits).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, int | float)
    }
    # Neither is a limit: a unit, and how far a decoder reduces.
    assert numbers - {"limits.MEGABYTE", "limits.ENOUGH_PIXELS"} <= {
        match["constant"] for match in QUOTED
    }


def test_every_row_with_a_constant_is_read_by_these_tests():
    constants = re.findall(r"`([a-z_.0-9]+\.[A-Z_]{3,})`", PAGE)
    assert set(constants) == {match["constant"] for match in QUOTED}


def test_the_page_is_linked_from_where_people_look():
    root = Path(__file__).parents[1]
    assert "(docs/safety.md)" in (root / "README.md").read_text(encoding="utf-8")
    assert "(safety.md)" in (root / "docs/architecture.md").read_text(encoding="utf-8")
