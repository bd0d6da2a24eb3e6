"""What a child process may do to the parent: nothing."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hficma.errors import InputError
from hficma.limits import MEGABYTE
from hficma.untrusted.worker import Worker

# The child finds these functions in a module of its own, as the package's are found.
MODULE = """
import ctypes, os, sys, time
from hficma.errors import InputError

def same(*values): return values if len(values) != 1 else values[0]
def count(n):
    for i in range(n): yield {"i": i}
def slow_after(n):
    for i in range(n): yield i
    time.sleep(60)
def sleep(seconds): time.sleep(seconds); return "late"
def allocate(size): return len(bytearray(size))
def crash(): ctypes.string_at(8)
def leave(): os._exit(3)
def refuse(): raise InputError("a.html: is empty")
def fail(): raise KeyError("a fault")
def chatter():
    print("noise"); os.write(1, b"noise"); os.write(2, b"noise"); return 1
def process(): return os.getpid()
def here(): import hficma; return hficma.__file__
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("functions")
    (folder / "worker_functions.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import worker_functions

    yield worker_functions
    sys.path.remove(str(folder))
    del sys.modules["worker_functions"]


@pytest.fixture(scope="module")
def worker(functions):
    with Worker(memory=600 * MEGABYTE) as worker:
        yield worker


def test_values_come_back_as_they_went(worker, functions):
    for value in ({"a": [1, None, "é\ud800"]}, b"\x00\xff", Path("a/b"), True):
        assert worker.call(functions.same, value, name="x") == value
    assert worker.call(functions.same, b"1" * 10**6, {"a": 1}, name="x") == (b"1" * 10**6, {"a": 1})


def test_a_stream_comes_in_order(worker, functions):
    items = worker.stream(functions.count, 5000, name="x")
    assert [item["i"] for item in items] == list(range(5000))


def test_what_takes_too_long_is_one_line_and_the_next_call_works(worker, functions):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"p\.html: takes longer than 0.3 s"):
        worker.call(functions.sleep, 60, name="p.html", seconds=0.3)
    assert time.monotonic() - began < 10
    assert worker.call(functions.same, 1, name="x") == 1


def test_each_item_of_a_stream_has_its_time(worker, functions):
    items = worker.stream(functions.slow_after, 3, name="x", seconds=1)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="longer"):
        next(items)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_too_much_memory_is_one_line(worker, functions):
    with pytest.raises(InputError, match="out of memory"):
        worker.call(functions.allocate, 10**9, name="x")
    assert worker.call(functions.allocate, 10**7, name="x") == 10**7


@pytest.mark.parametrize(("function", "said"), [("crash", "signal"), ("leave", "exit code 3")])
def test_a_crash_is_one_line(worker, functions, function, said):
    with pytest.raises(InputError, match=said):
        worker.call(getattr(functions, function), name="x")
    assert worker.call(functions.same, 1, name="x") == 1


def test_an_input_error_keeps_its_line_and_the_child(worker, functions):
    before = worker.call(functions.process, name="x")
    with pytest.raises(InputError, match=r"^a\.html: is empty$"):
        worker.call(functions.refuse, name="x")
    assert worker.call(functions.process, name="x") == before


def test_a_fault_of_ours_is_not_taken_for_bad_input(worker, functions):
    with pytest.raises(RuntimeError, match="KeyError"):
        worker.call(functions.fail, name="x")


def test_what_a_library_prints_does_not_get_between(worker, functions):
    assert worker.call(functions.chatter, name="x") == 1
    assert worker.call(functions.same, 2, name="x") == 2


def test_a_stream_left_early_takes_its_child_with_it(worker, functions):
    items = worker.stream(functions.count, 10**9, name="x")
    next(items)
    items.close()
    assert worker.call(functions.same, 1, name="x") == 1


def test_no_child_is_left(functions):
    with Worker() as worker:
        child = worker.call(functions.process, name="x")
        os.kill(child, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_killed_child_is_one_line(worker, functions):
    os.kill(worker.call(functions.process, name="x"), signal.SIGKILL)
    with pytest.raises(InputError, match="signal 9"):
        worker.call(functions.same, 1, name="x")


def test_a_folder_named_hficma_is_not_taken_for_the_package(functions, tmp_path, monkeypatch):
    import hficma

    (tmp_path / "hficma").mkdir()
    (tmp_path / "hficma/__init__.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    with Worker() as worker:
        assert worker.call(functions.here, name="x") == hficma.__file__
