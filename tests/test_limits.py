import gzip
import json
import os
import time

import pytest

from hficma import limits
from hficma.errors import InputError
from hficma.limits import gunzip, open_gzip, parse_json, read_regular_file


def test_a_file_is_read(tmp_path):
    """The limits must not stand in the way of what is within them."""
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular_file(tmp_path / "a", limit=3) == b"abc"


def test_a_file_past_its_limit_is_not_read(tmp_path):
    """Reading first and measuring after takes the memory all the same."""
    (tmp_path / "a").write_bytes(b"abcd")
    with pytest.raises(InputError, match=r"has 4 bytes; a page may have 3"):
        read_regular_file(tmp_path / "a", limit=3, what="a page")


def test_a_sparse_terabyte_is_refused_by_its_size(tmp_path):
    """It takes no disk, and would take all memory."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InputError, match="bytes"):
        read_regular_file(tmp_path / "a")


def test_what_is_no_file_is_named_and_nothing_waits(tmp_path):
    """Opening a pipe waits for its writer for ever."""
    began = time.monotonic()
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "is a pipe"),
        ("/dev/zero", "is a device"),
        (tmp_path, "is a directory"),
        (tmp_path / "none", "cannot be read"),
        (tmp_path / ("n" * 300), "cannot be read"),
        ("zero\0byte", "cannot be read"),
    ):
        with pytest.raises(InputError, match=kind):
            read_regular_file(path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_the_encodings_editors_write(encoding):
    """Notepad saves UTF-16, and UTF-8 with a mark."""
    assert parse_json('{"a": "é"}'.encode(encoding), name="x") == {"a": "é"}


@pytest.mark.parametrize("opened", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [200, 990, 100_000, 2_000_000])
def test_deep_json_is_one_line(opened, depth):
    """Python ends in a traceback a thousand levels deep."""
    closed = {"[": "]", '{"a":': "}"}[opened]
    with pytest.raises(InputError, match="nested deeper"):
        parse_json(opened * depth + "1" + closed * depth, name="x")


def test_json_of_the_allowed_depth_is_read():
    """A limit that is off by one refuses what it promises."""
    depth = limits.JSON_DEPTH
    assert parse_json("[" * depth + "1" + "]" * depth, name="x")
    with pytest.raises(InputError):
        parse_json("[" * (depth + 2) + "1" + "]" * (depth + 2), name="x")


def test_many_shallow_brackets_are_no_depth():
    """A list of a million recipes is not deep."""
    assert len(parse_json(json.dumps([[1]] * 10_000), name="x")) == 10_000


def test_a_number_of_a_million_digits_is_one_line():
    """Python refuses it in words about its own settings."""
    with pytest.raises(InputError, match="not valid JSON"):
        parse_json("9" * 10**6, name="x")


def test_a_gzip_bomb_stops_at_the_limit():
    """A kilobyte would unpack to all memory."""
    bomb = gzip.compress(b"0" * 10**7)
    with pytest.raises(InputError, match="unpacks to more than"):
        gunzip(bomb, name="x", limit=1000)
    assert gunzip(gzip.compress(b"abc"), name="x") == b"abc"


def test_damaged_gzip_is_one_line():
    """A download that was cut off is the most usual damage."""
    whole = gzip.compress(os.urandom(1000))
    for content in (b"", b"no gzip", whole[:-9], whole[:20] + b"\xff" * 40 + whole[60:]):
        if content:
            with pytest.raises(InputError, match="no whole gzip"):
                gunzip(content, name="x")


def test_a_stream_of_gzip_stops_where_it_is_a_bomb(tmp_path, monkeypatch):
    """A stream has no limit of length, only of proportion."""
    monkeypatch.setattr(limits, "GZIP_FREE_BYTES", 100_000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\n" * 50_000_000))
    with open_gzip(tmp_path / "bomb.gz") as file, pytest.raises(InputError, match="200 times"):
        file.read()
    text = "\n".join(map(str, range(100_000))).encode()
    (tmp_path / "text.gz").write_bytes(gzip.compress(text))
    with open_gzip(tmp_path / "text.gz") as file:
        assert file.read() == text


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc on this system")
def test_a_file_that_grows_is_read_whole():
    """Such files say that they have no bytes; one that is written meanwhile says too few."""
    assert b"Name:" in read_regular_file("/proc/self/status")
    with pytest.raises(InputError, match="may have 20"):
        read_regular_file("/proc/self/status", limit=20)
