"""Numbers in what commands print: "(1 shards)" and 53591277 bytes are read by nobody."""

from __future__ import annotations

import pytest

from hficma.cli.quantities import counted, readable_bytes


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
