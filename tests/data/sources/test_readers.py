"""The readers of foreign text and binary forms: what they take, and that nothing breaks them."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hficma.data.sources.folder import FolderSource
from hficma.data.sources.formats.json_file import read_json
from hficma.data.sources.formats.schema_org import recipe_nodes, to_recipe
from hficma.data.sources.formats.web_page import read_page
from hficma.data.sources.recipe1m import json_stream
from hficma.data.sources.recipe1m.json_stream import read_json_list
from hficma.data.sources.recipe1m.torch7 import read_t7
from hficma.errors import InputError
from hficma.recipe import Recipe, read_jsonl

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 18])
def test_json_list_is_streamed(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that crosses a chunk's edge must come out whole, whatever the edge cuts."""
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    records: list[dict[str, Any]] = [
        {"n": n, "text": 'é\\"]},' * n, "deep": [[{}]]} for n in range(20)
    ]
    path = tmp_path / "layer.json"
    path.write_text(json.dumps(records, indent=chunk % 3), encoding="utf-8")
    assert list(read_json_list(path)) == records


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"a": 1}', '[{"a": ', "[{]", '[{"a": 1} {', "[" * 5000, "\xff"]
)
def test_bad_json_lists(tmp_path: Path, text: str) -> None:
    """A layer that was not downloaded whole is named, not read as far as it goes."""
    path = tmp_path / "layer.json"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"layer\.json"):
        list(read_json_list(path))


def test_memory_stays_small_on_a_long_list(tmp_path: Path) -> None:
    """Recipe1M's first layer has 1.4 GB: a reader that keeps it needs many times that."""
    import tracemalloc

    path = tmp_path / "layer.json"
    record = json.dumps({"text": "x" * 1000})
    path.write_text("[" + ",".join([record] * 8_000) + "]")  # 8 MB
    tracemalloc.start()
    assert sum(1 for _ in read_json_list(path)) == 8_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@relaxed
@given(st.lists(st.one_of(json_values.map(json.dumps), st.text(max_size=20)), max_size=6))
def test_fuzzed_jsonl(tmp_path: Path, lines: list[str]) -> None:
    """Each line is a recipe or a note; the reader never stops early or fails."""
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass"))
    notes: list[str] = []
    for recipe in read_jsonl(path, on_bad=notes.append):
        assert recipe.ingredients
    assert all("line" in note for note in notes)


@relaxed
@given(
    st.dictionaries(
        st.sampled_from(
            ["@type", "@graph", "name", "recipeIngredient", "recipeInstructions", "image", "url"]
        ),
        json_values | st.just("Recipe") | st.just(["1 egg"]),
    )
)
def test_fuzzed_json_ld(node: dict[str, Any]) -> None:
    """Whatever a site publishes: a recipe or the project's own error."""
    with contextlib.suppress(InputError):
        for record in read_json(json.dumps(node).encode(), "page.jsonld"):
            assert Recipe.parse(record.fields, where="page").ingredients
    script = f'<script type="application/ld+json">{json.dumps(node)}</script>'
    for recipe in read_page(script.encode())["recipes"]:
        assert recipe["ingredients"]


def test_deep_json_ld_ends() -> None:
    """A page nested without end must not exhaust the stack."""
    value: Any = {"@type": "Recipe", "recipeIngredient": ["egg"]}
    for _ in range(5000):
        value = {"@graph": [value]}
    assert recipe_nodes(value) == []
    steps: Any = "Mix."
    for _ in range(5000):
        steps = [steps]
    node = {"@type": "Recipe", "recipeIngredient": ["egg"], "recipeInstructions": steps}
    assert to_recipe(node, where="page").instructions == ()


def test_json_ld_as_sites_write_it() -> None:
    """Entities, tags, line breaks in one string, attributes in another order, single quotes."""
    page = (
        "<SCRIPT data-x='1' type='application/ld+json; charset=utf-8'>"
        '{"@type":"http://schema.org/Recipe","name":"Mac &amp; <b>Cheese</b>",'
        '"recipeIngredient":"1 egg\\n2 cups milk","recipeInstructions":"<p>Mix.</p><p>Bake.</p>",'
        '"image":[{"url":"a.jpg"},"b.jpg"],"mainEntityOfPage":{"@id":"http://x/y"}}'
        "</SCRIPT>"
    )
    (actual,) = read_page(page.encode())["recipes"]
    recipe = Recipe.parse({k: v for k, v in actual.items() if k != "images"}, where="page")
    assert recipe.title == "Mac & Cheese"
    assert recipe.ingredients == ("1 egg", "2 cups milk")
    assert recipe.instructions == ("Mix.", "Bake.")
    assert (recipe.image, recipe.url) == ("a.jpg", "http://x/y")


def test_one_bad_recipe_leaves_the_page_s_others(tmp_path: Path) -> None:
    """A page of several recipes loses only the bad one."""
    nodes = [
        {"@type": "Recipe", "name": "A", "recipeIngredient": ["egg"]},
        {"@type": "Recipe", "name": "B"},
        {"@type": "Recipe", "name": "C", "recipeIngredient": ["salt"]},
    ]
    (tmp_path / "all.jsonld").write_text(json.dumps(nodes))
    notes: list[str] = []
    actual = FolderSource(tmp_path).recipes(strict=False, on_bad=notes.append, scratch=tmp_path)
    assert [item.recipe.title for item in actual] == ["A", "C"]
    assert len(notes) == 1
    assert "no ingredients" in notes[0]


def t7_floats(values: np.ndarray) -> bytes:
    head = struct.pack("<i", 4) + struct.pack("<i", 1)
    for text in ("V 1", "torch.FloatTensor"):
        head += struct.pack("<i", len(text)) + text.encode()
    head += struct.pack("<i", 2) + struct.pack("<4q", *values.shape, values.shape[1], 1)
    head += struct.pack("<q", 1) + struct.pack("<ii", 4, 2)
    for text in ("V 1", "torch.FloatStorage"):
        head += struct.pack("<i", len(text)) + text.encode()
    return head + struct.pack("<q", values.size) + values.tobytes()


def test_t7_tensor_stays_on_the_disk(tmp_path: Path) -> None:
    """29 GB of vectors do not fit into memory."""
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    path = tmp_path / "x.t7"
    path.write_bytes(t7_floats(values))
    actual = read_t7(path)
    assert np.array_equal(actual, values)
    base = actual
    while getattr(base, "base", None) is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@relaxed
@given(st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=8)), max_size=4))
def test_fuzzed_t7(tmp_path: Path, edits: list[tuple[int, bytes]]) -> None:
    """Sizes, strides and lengths from a damaged file never reach outside of it."""
    content = bytearray(t7_floats(np.arange(12, dtype="<f4").reshape(3, 4)))
    for at, new in edits:
        content[at : at + len(new)] = new
    path = tmp_path / "fuzz.t7"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        np.asarray(read_t7(path)).copy()


@relaxed
@given(st.binary(max_size=80))
def test_random_t7(tmp_path: Path, content: bytes) -> None:
    """Bytes that were never a .t7 file."""
    path = tmp_path / "random.t7"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read_t7(path)


def test_t7_function_is_refused(tmp_path: Path) -> None:
    """A Lua function in a file is code."""
    path = tmp_path / "f.t7"
    path.write_bytes(struct.pack("<i", 6))
    with pytest.raises(InputError, match="function"):
        read_t7(path)
