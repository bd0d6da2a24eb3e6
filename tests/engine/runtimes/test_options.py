"""How graphs are executed is one value, and what cannot be is refused before anything is opened."""

from __future__ import annotations

import dataclasses

import pytest

from hficma.engine import ExecutionOptions
from hficma.engine.runtimes.options import ExecutionKeywords, processors
from hficma.errors import InputError


def test_the_keywords_of_public_functions_are_the_fields_of_the_value() -> None:
    """`Engine.open(index, device=...)` would lack an option that the value has."""
    fields = {field.name for field in dataclasses.fields(ExecutionOptions)}
    assert ExecutionKeywords.__annotations__.keys() == fields
    options = ExecutionOptions(runtime="torch", precision="fp16", device="cuda:1", threads=3)
    assert ExecutionOptions(**options.keywords()) == options


def test_all_cores_become_a_number() -> None:
    """A runtime would count the machine's cores where the process may use fewer."""
    assert ExecutionOptions().with_thread_count().threads == processors() >= 1
    assert ExecutionOptions(threads=3).thread_count == 3


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"runtime": "tvm"}, "runtime tvm"), ({"threads": 0}, "threads is 0")],
)
def test_options_that_cannot_be_are_refused(keywords: ExecutionKeywords, message: str) -> None:
    """A typing error would come up after the index was read, or in a backend's own words."""
    with pytest.raises(InputError, match=message):
        ExecutionOptions(**keywords)
