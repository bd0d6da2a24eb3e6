"""Saved web pages as people have them: any notation, any charset, and careless."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.data.sources import SourceRecipe
from hficma.data.sources.folder import FolderSource
from hficma.data.sources.formats.page_worker import page_worker, read_page_file
from hficma.data.sources.formats.schema_org import decode_block
from hficma.data.sources.formats.web_page import (
    decode_page,
    read_page,
    read_site_page,
    site_is_known,
)
from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.recipe.markup import plain_lines, plain_text

NODE: dict[str, Any] = {
    "@context": "https://schema.org",
    "@type": "Recipe",
    "name": "Leek tart",
    "recipeIngredient": ["2 leeks", "1 egg"],
    "recipeInstructions": [{"@type": "HowToStep", "text": "Slice."}],
}


def page(*values: object, body: str = "") -> bytes:
    scripts = "".join(
        f'<script type="application/ld+json">{v if isinstance(v, str) else json.dumps(v)}</script>'
        for v in values
    )
    return f"<!doctype html><html><head>{scripts}</head><body>{body}</body></html>".encode()


def only(content: bytes) -> dict[str, Any]:
    (recipe,) = read_page(content)["recipes"]
    return dict(recipe)


def read_folder(folder: Path) -> tuple[list[SourceRecipe], list[str]]:
    notes: list[str] = []
    source = FolderSource(folder)
    actual = list(source.recipes(strict=False, on_bad=notes.append, scratch=folder))
    return actual, notes


@pytest.mark.parametrize(
    "kind",
    ["recipe", "RECIPE", "schema:Recipe", "http://schema.org/Recipe", "https://schema.org/Recipe/",
     ["NewsArticle", "recipe"], "Recipe, NewsArticle"],
)  # fmt: skip
def test_types_in_any_case_and_prefix(kind: object) -> None:
    """A site that writes "recipe" or "schema:Recipe" lost all of its pages without a word."""
    assert only(page({**NODE, "@type": kind}))["title"] == "Leek tart"


@pytest.mark.parametrize(
    "value",
    [
        {"@graph": [{"@type": "WebPage"}, NODE]},
        [[NODE]],
        {"@type": "WebPage", "mainEntity": {"@type": "ItemPage", "about": [NODE]}},
        {"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "item": NODE}]},
    ],
)
def test_recipes_wherever_they_are_nested(value: object) -> None:
    """Only some keys were looked into."""
    assert only(page(value))["ingredients"] == ["2 leeks", "1 egg"]


@pytest.mark.parametrize(
    "wrap",
    [
        "var data = {}",
        "\n// <![CDATA[\n{}\n// ]]>\n",
        "<![CDATA[{}]]>",
        "/*<![CDATA[*/{}/*]]>*/",
        "<!-- {} -->",
        "\ufeff{};",
    ],
)
def test_what_stands_around_json_ld(wrap: str) -> None:
    """Marks for browsers of 2005 made a page "not valid JSON"."""
    assert decode_block(wrap.replace("{}", json.dumps(NODE)), "page") == NODE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, 2,], }', {"a": [1, 2]}),
        ('{"a": "raw\nline\tend",}', {"a": "raw\nline\tend"}),
        (r'{"a": "it\'s", "b": "\d"}', {"a": "it's", "b": "d"}),
        ('{"a": "x, ]"}', {"a": "x, ]"}),
        ('{"url": "https://x.org/y"} </p>', {"url": "https://x.org/y"}),
    ],
)
def test_careless_json(text: str, expected: object) -> None:
    """Search engines read it; and what is inside of strings is left alone."""
    assert decode_block(text, "page") == expected


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: t.replace("HEAD", '<meta charset="iso-8859-1">').encode("latin-1"),
        lambda t: t.replace(
            "HEAD", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">'
        ).encode("cp1252"),
        lambda t: ('<?xml version="1.0" encoding="iso-8859-15"?>' + t).encode("iso-8859-15"),
        lambda t: t.encode("utf-16"),
        lambda t: t.encode("utf-8-sig"),
        lambda t: t.encode("cp1252"),
        lambda t: t.replace("HEAD", '<meta charset="iso-8859-1">').encode("utf-8"),
    ],
)
def test_charsets_as_declared(encode: Any) -> None:
    """A page in Latin-1 was refused, though it says so itself."""
    text = page({**NODE, "name": "NAME"}).decode().replace("<head>", "<head>HEAD")
    assert only(encode(text.replace("NAME", "Crème brûlée")))["title"] == "Crème brûlée"


def test_a_multibyte_charset() -> None:
    """Not all of the web is Latin."""
    assert "餃子" in decode_page('<meta charset="shift_jis">餃子'.encode("shift_jis"))


MICRODATA = """<div itemscope itemtype="http://schema.org/Recipe"><h1 itemprop="name">Leek tart</h1>
<ul><li itemprop="recipeIngredient">2 leeks</li><li itemprop="ingredients">1 egg</li></ul>
<ol itemprop="recipeInstructions"><li>Slice.</li><li>Bake.</li></ol>
<img itemprop="image" src="a.jpg"></div>"""
RDFA = """<div vocab="http://schema.org/" typeof="Recipe"><h1 property="name">Leek tart</h1>
<ul><li property="recipeIngredient">2 leeks</li><li property="ingredients">1 egg</li></ul>
<ol property="recipeInstructions"><li>Slice.</li><li>Bake.</li></ol>
<img property="image" src="a.jpg"></div>"""


@pytest.mark.parametrize("body", [MICRODATA, RDFA, RDFA.replace('property="', 'property="schema:')])
def test_microdata_and_rdfa(body: str) -> None:
    """Pages in these notations held "no JSON-LD"; lines keep the page's order."""
    recipe = only(page(body=body))
    assert recipe["ingredients"] == ["2 leeks", "1 egg"]
    assert recipe["instructions"] == ["Slice.", "Bake."]
    assert recipe["title"] == "Leek tart"


def test_the_same_recipe_twice_is_one_and_two_are_two() -> None:
    """Themes and plugins both describe a recipe, each in its notation."""
    other = {**NODE, "name": "Leek soup", "recipeIngredient": ["3 leeks"]}
    recipes = read_page(page(NODE, NODE, other, body=MICRODATA))["recipes"]
    assert [recipe["title"] for recipe in recipes] == ["Leek tart", "Leek soup"]


def test_what_one_notation_lacks_another_gives() -> None:
    """Steps only in microdata were lost where JSON-LD had the ingredients."""
    bare = {key: value for key, value in NODE.items() if key != "recipeInstructions"}
    assert only(page(bare, body=MICRODATA))["instructions"] == ["Slice.", "Bake."]


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (["2 \r\nbay leaves", "1 leek"], ["2 bay leaves", "1 leek"]),
        ("2 leeks\n1 egg", ["2 leeks", "1 egg"]),
        (["1 leek ((washed))"], ["1 leek (washed)"]),
        (["1 &amp;frac12; cup <b>flour</b>"], ["1 ½ cup flour"]),
        (["▢ 1 leek", "• 1 egg"], ["1 leek", "1 egg"]),
        ([{"@type": "HowToSupply", "name": "leek", "requiredQuantity": 2}], ["2 leek"]),
        ([["1 leek"], ["1 egg"]], ["1 leek", "1 egg"]),
        ([{"@type": "ItemList", "itemListElement": ["1 leek", "1 egg"]}], ["1 leek", "1 egg"]),
    ],
)
def test_ingredients_as_sites_write_them(given_value: object, expected: list[str]) -> None:
    """Each was two ingredients, half of one, or none."""
    assert only(page({**NODE, "recipeIngredient": given_value}))["ingredients"] == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["Core < 70 C and crust > 90 C."], ["Core < 70 C and crust > 90 C."]),
        (
            {"@type": "ItemList", "itemListElement": [
                {"@type": "ListItem", "name": "Rinse", "description": "Rinse the lentils."},
                {"@type": "ListItem", "item": {"@type": "HowToStep", "text": "Simmer."}},
            ]},
            ["Rinse the lentils.", "Simmer."],
        ),
        (
            [{"@type": "HowToSection", "name": "Dough", "itemListElement": [
                {"@type": "HowToStep", "name": "Knead", "text": "Knead it."}]}],
            ["Dough", "Knead it."],
        ),
        ("<p>Mix.</p><p>Bake.</p>", ["Mix.", "Bake."]),
        ("Mix.<br>Bake.", ["Mix.", "Bake."]),
        ([{"@type": "HowToStep", "text": ["Mix.", "Bake."]}], ["Mix.", "Bake."]),
    ],
)  # fmt: skip
def test_steps_as_sites_write_them(steps: object, expected: list[str]) -> None:
    """What lay between < and >, in `description` or in `item` was lost without a word."""
    assert only(page({**NODE, "recipeInstructions": steps}))["instructions"] == expected


def test_every_page_without_a_recipe_is_named(tmp_path: Path) -> None:
    """84 of 1,109 saved pages vanished without a word; one bad page ends one page."""
    (tmp_path / "A.HTML").write_bytes(page(NODE))
    (tmp_path / "b.htm").write_bytes(page({"@type": "WebSite"}))
    (tmp_path / "c.html").write_bytes(page({**NODE, "recipeIngredient": [], "name": "Teaser"}))
    (tmp_path / "d.html").write_bytes(page("{broken"))
    (tmp_path / "e.xhtml").write_bytes(b"")
    actual, notes = read_folder(tmp_path)
    assert [item.recipe.title for item in actual] == ["Leek tart"]
    assert [note.rsplit("/", 1)[1].partition(":")[0] for note in sorted(notes)] == [
        "b.htm", "c.html", "d.html", "e.xhtml",
    ]  # fmt: skip
    assert any("no ingredients are given for: Teaser" in note for note in notes)


def test_two_pages_that_say_the_same_are_two(tmp_path: Path) -> None:
    """Ids are made of content: the second page was left out as the first."""
    for name in "ab":
        (tmp_path / f"{name}.html").write_bytes(page(NODE))
    actual, notes = read_folder(tmp_path)
    assert len({item.recipe.id for item in actual}) == 2
    assert notes == []


def test_photos_that_a_browser_saved(tmp_path: Path) -> None:
    """In any browser's folder, in any case, under another suffix."""
    images = {"a": "a_files/Tart.JPG", "b": "b-Dateien/tart.webp", "c": "tart.jfif"}
    for name, photo in images.items():
        (tmp_path / f"{name}.html").write_bytes(
            page({**NODE, "name": name, "image": "https://x.org/p/tart.jpg?w=3"})
        )
        (tmp_path / photo).parent.mkdir(exist_ok=True)
        (tmp_path / photo).write_bytes(b"jpeg")
    actual, _ = read_folder(tmp_path)
    assert {item.recipe.title: item.images[0] for item in actual} == images


def test_a_web_archive_in_one_file(tmp_path: Path) -> None:
    """Chrome and Edge save "Webpage, single file"."""
    mail = (
        "From: <Saved by Blink>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; "
        'type="text/html"; boundary="x"\r\n\r\n--x\r\nContent-Type: text/html\r\n'
        "Content-Transfer-Encoding: 8bit\r\n\r\n" + page(NODE).decode() + "\r\n--x--\r\n"
    )
    (tmp_path / "tart.mhtml").write_bytes(mail.encode())
    actual, notes = read_folder(tmp_path)
    assert [item.recipe.title for item in actual] == ["Leek tart"], notes


def test_a_known_site_is_read_by_its_layout() -> None:
    """A site that leaves the recipe out of its structured data; the page's own address tells it."""
    body = """<link rel="canonical" href="https://www.cucchiaio.it/ricetta/torta/">
    <h1>Torta</h1>"""
    url = read_page(page(NODE, body=body))["url"]
    assert url == "https://www.cucchiaio.it/ricetta/torta/"
    assert not site_is_known("https://no-such-site.example/x")
    assert read_site_page(page(NODE), "https://no-such-site.example/x") is None
    actual = read_site_page(page(NODE), "https://www.allrecipes.com/recipe/1/")
    assert actual is not None
    assert actual["ingredients"] == ["2 leeks", "1 egg"]


@pytest.mark.parametrize(
    "content",
    ["</" * 300_000, "<?" * 300_000, "<!" * 300_000, "<![CDATA[" * 30_000, "<!--" * 100_000,
     "<div itemscope itemprop=a>" * 50_000, "&amp;" * 200_000, "<a " + "x " * 200_000,
     page('{"a":' * 100_000).decode(), page({**NODE, "name": "<a" * 200_000}).decode()],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_pages_made_to_take_minutes(content: str) -> None:
    """The standard library's parser is quadratic on some: 43 to 60 s for a megabyte."""
    import time

    started = time.process_time()
    with contextlib.suppress(InputError):  # "nested too deep"
        read_page(content.encode())
    assert time.process_time() - started < 5


def test_a_page_that_takes_too_long_is_named_and_the_next_is_read() -> None:
    """One page costs its seconds, not the import."""
    slow = page('"\\' * 300_000)
    with page_worker() as worker:
        with pytest.raises(Exception, match=r"slow\.html.* longer than"):
            read_page_file(worker, slow, "slow.html", 0.3)
        records, notes = read_page_file(worker, page(NODE), "next.html", 20)
    assert records[0].fields["title"] == "Leek tart"
    assert notes == []


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="<>/!-[]{}\"'=: aT&;\\\n", max_size=300).map(str.encode)
)
def test_fuzzed_pages(content: bytes) -> None:
    """Whatever is called .html: recipes or notes, never an error of another kind."""
    result = read_page(b'<script type="application/ld+json">' + content)
    json.dumps(result)
    read_page(content)


@given(st.text(alphabet="ab <>&;#/!-()\n\u200b", max_size=60))
def test_plain_text_is_one_line_and_stays_so(text: str) -> None:
    """Cleaning what is clean changes nothing, and no line end is left in a line."""
    plain = plain_text(text)
    assert "\n" not in plain
    assert plain == plain.strip()
    assert all(line and "\n" not in line for line in plain_lines(text))


def test_half_an_emoji_anywhere() -> None:
    """JSON can say half a character; no file, database or terminal can hold it."""
    half = "\ud800"
    recipe = Recipe.parse(
        dict.fromkeys(("id", "title", "image", "url", "category"), f"{half}x")
        | {"ingredients": [f"1 {half}"], "instructions": [half]},
        where="x",
    )
    json.dumps(recipe.to_json(), ensure_ascii=False).encode("utf-8")
    assert recipe.ingredients == ("1 \ufffd",)


@pytest.mark.parametrize(
    "attributes",
    [
        'itemscope="" itemtype="" itemprop=""',
        'itemscope itemtype=" "',
        'itemscope itemref="x x"',
        'itemscope itemprop=" "',
        'typeof="" property=""',
        'itemscope itemtype="://" itemid="[" src="//["',
    ],
)
def test_a_notation_that_breaks_its_reader_costs_that_notation(attributes: str) -> None:
    """A library's IndexError on one attribute would end the import of a thousand pages."""
    actual = read_page(page(NODE, body=f"<div {attributes}><a {attributes} href='//['>x</a></div>"))
    assert [recipe["title"] for recipe in actual["recipes"]] == ["Leek tart"]


@pytest.mark.parametrize("after", ["</body></html>", "</BODY >\n</HTML>\n<!-- cached -->"])
def test_what_follows_the_end_of_the_page_is_read(after: str) -> None:
    """Programs that cache pages append their JSON-LD; the parser dropped it with its recipe."""
    script = f'<script type="application/ld+json">{json.dumps(NODE)}</script>'
    assert only(f"<html><body><p>Tart</p>{after}{script}".encode())["title"] == "Leek tart"


@pytest.mark.parametrize(
    "charset", ["base64", "idna", "undefined", "rot13", "klingon", "utf-16", "utf-8"]
)
def test_charsets_that_are_none_and_bytes_that_are_not_of_it(charset: str) -> None:
    """Python's codecs for other things ended the import, and one stray byte lost its letter."""
    text = f'<meta charset="{charset}"><p>'.encode()
    assert decode_page(text + "Crème".encode()).endswith("<p>Crème")
    if charset == "utf-8":
        assert decode_page(text + b"\xe8 " + "œuf".encode()).endswith("<p>è œuf")
