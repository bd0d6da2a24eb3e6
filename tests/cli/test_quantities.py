"""Numbers in what commands print: "(1 shards)" and 53591277 bytes are read by nobody."""

from __future__ import annotations

import pytest

from hficma.cli.quantities import counted, parsed_bytes, readable_bytes
from hficma.errors import InputError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 KB"), (99_949, "99.9 KB"),
        (99_950, "100 KB"), (999_499, "999 KB"), (999_500, "1.0 MB"), (53_591_277, "53.6 MB"),
        (7_000_000_000_000_000, "7,000 TB"),
    ],
)  # fmt: skip
def test_sizes_have_three_digits(size: int, text: str) -> None:
    """A unit that changes one step late or early is off by a thousand."""
    assert readable_bytes(size) == text


def test_one_is_not_many() -> None:
    """ "1 shards", "1,250 recipe"."""
    assert counted(1, "shard") == "1 shard"
    assert counted(0, "shard") == "0 shards"
    assert counted(1250, "recipe") == "1,250 recipes"
    assert counted(2, "bad record or photo", "bad records and photos") == "2 bad records and photos"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6k", 6000), ("1.4 KB", 1400), ("9,200", 9200), ("2M", 2e6), ("18kb", 18_000),
        (".5g", 5e8), ("40GB", 40 * 10**9), ("1.5 tb", 1_500 * 10**9), ("0", 0), ("7K", 7000),
    ],
)  # fmt: skip
def test_bytes_are_read_as_people_write_them(text: str, size: float) -> None:
    """A budget read a thousandfold too large would fill the disk."""
    assert parsed_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "6 kilo", "-6k", "1e3", "6kk", "nan", "half of it", "9" * 400]
)
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    """A number too long for a float must not end in a traceback where bytes are counted whole."""
    with pytest.raises(InputError, match=r"no number of bytes.*40GB"):
        parsed_bytes(text)
