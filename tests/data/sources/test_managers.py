"""Recipe managers' exports, tables and archives, as those programs write them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import logging
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hficma.data.sources import SourceRecipe, open_source
from hficma.data.sources.file_tree import FileTree
from hficma.data.sources.formats.cooklang import read_cooklang
from hficma.data.sources.formats.csv_table import read_table
from hficma.errors import InputError
from hficma.limits import ARCHIVE_DEPTH
from hficma.recipe import Recipe, read_jsonl, read_jsonl_lines


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def zipped(files: dict[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def read(path: Path) -> tuple[list[SourceRecipe], list[bytes], list[str]]:
    """The recipes of a source, their photos' bytes, and what was left out."""
    notes: list[str] = []
    source = open_source(str(path))
    actual = list(source.recipes(strict=False, on_bad=notes.append, scratch=path.parent))
    return actual, [source.photo(image) for item in actual for image in item.images], notes


MEALIE = {
    "id": "3ef4f123-63d7-42e5-9b71-33315e17401c",
    "name": "Pilaf",
    "slug": "pilaf",
    "orgURL": "https://example.org/pilaf",
    "recipeCategory": [{"name": "Dinner", "slug": "dinner"}],
    "recipeIngredient": [
        {"title": "Rice", "note": "rinsed", "unit": {"name": "cup"}, "food": {"name": "rice"},
         "quantity": 1.5, "disableAmount": False, "display": ""},
        {"title": "", "note": "2 cups stock", "unit": None, "food": None, "quantity": 1,
         "disableAmount": True},
    ],
    "recipeInstructions": [{"title": "Start", "text": "Fry.\n"}, {"title": "", "text": "Simmer."}],
}  # fmt: skip
TANDOOR = {
    "name": "Pilaf",
    "steps": [
        {"name": "", "instruction": "Fry.", "ingredients": [
            {"food": {"name": "rice"}, "unit": {"name": "cup"}, "amount": 1.5, "note": "rinsed",
             "is_header": False, "no_amount": False},
            {"food": None, "unit": None, "amount": 0, "note": "Later", "is_header": True},
            {"food": {"name": "salt"}, "unit": None, "amount": 0, "no_amount": True}]},
        {"name": "", "instruction": "Simmer.", "ingredients": []},
    ],
    "source_url": "https://example.org/pilaf",
}  # fmt: skip


@pytest.mark.parametrize("photo", ["pilaf/images/original.webp", "original.WEBP"])
@pytest.mark.parametrize("snake", [False, True])
def test_mealie(tmp_path: Path, photo: str, snake: bool) -> None:
    """Amount, unit, food and note are one line; a note alone is the line, whatever its amount."""
    names = {"recipeIngredient": "recipe_ingredient", "recipeInstructions": "recipe_instructions",
             "orgURL": "org_url", "recipeCategory": "recipe_category"}  # fmt: skip
    record = {names.get(key, key) if snake else key: value for key, value in MEALIE.items()}
    folder = photo.rpartition("images/")[0]
    (tmp_path / "m.zip").write_bytes(
        zipped({f"{folder}pilaf.json": json.dumps(record), photo: jpeg(1)})
    )
    (item,), photos, notes = read(tmp_path / "m.zip")
    assert item.recipe.ingredients == ("1.5 cup rice, rinsed", "2 cups stock")
    assert item.recipe.instructions == ("Start", "Fry.", "Simmer.")
    assert (item.recipe.title, item.recipe.category) == ("Pilaf", "Dinner")
    assert (item.recipe.url, photos, notes) == ("https://example.org/pilaf", [jpeg(1)], [])


def test_mealie_backup(tmp_path: Path) -> None:
    """A backup is tables of a database; photos lie in folders called after the recipe's id."""
    key = "3ef4f12363d742e59b7133315e17401c"
    tables = {
        "recipes": [{"id": key, "name": "Pilaf", "org_url": None}, {"id": "0", "name": "Bare"}],
        "recipes_ingredients": [
            {"recipe_id": key, "position": 1, "note": "2 cups stock", "quantity": 1},
            {"recipe_id": key, "position": 0, "note": "", "quantity": 2, "food_id": "f",
             "unit_id": "u"},
        ],
        "ingredient_foods": [{"id": "f", "name": "rice"}],
        "ingredient_units": [{"id": "u", "name": "cup"}],
        "recipe_instructions": [{"recipe_id": key, "position": 0, "title": "", "text": "Fry."}],
    }  # fmt: skip
    place = "data/recipes/3ef4f123-63d7-42e5-9b71-33315e17401c/images/original.webp"
    (tmp_path / "b.zip").write_bytes(zipped({"database.json": json.dumps(tables), place: jpeg(2)}))
    (item,), photos, notes = read(tmp_path / "b.zip")
    assert item.recipe.ingredients == ("2 cup rice", "2 cups stock")
    assert photos == [jpeg(2)]
    assert len(notes) == 1
    assert "no ingredients" in notes[0]


def test_tandoor(tmp_path: Path) -> None:
    """A ZIP of ZIPs; heads among the ingredients are none."""
    inner = [zipped({"recipe.json": json.dumps(TANDOOR), "image.jpeg": jpeg(n)}) for n in (1, 2)]
    (tmp_path / "t.zip").write_bytes(zipped({"1.zip": inner[0], "2.zip": inner[1]}))
    (one, two), photos, notes = read(tmp_path / "t.zip")
    assert one.recipe.ingredients == ("1.5 cup rice, rinsed", "salt")
    assert one.recipe.instructions == two.recipe.instructions == ("Fry.", "Simmer.")
    assert photos == [jpeg(1), jpeg(2)]
    assert one.recipe.id != two.recipe.id
    assert notes == []


def test_paprika(tmp_path: Path) -> None:
    """A ZIP of gzipped JSON whose photo is base64 inside."""
    record = {
        "uid": "A-1", "name": "Pilaf", "ingredients": "1 cup rice\n2 cups stock\n",
        "directions": "Fry.\n\nSimmer.", "source_url": "https://example.org/p", "photo": "x.jpg",
        "photo_data": base64.b64encode(jpeg(3)).decode(), "categories": ["Dinner"], "rating": 0,
    }  # fmt: skip
    member = gzip.compress(json.dumps(record).encode())
    (tmp_path / "p.paprikarecipes").write_bytes(zipped({"Pilaf.paprikarecipe": member}))
    (item,), photos, notes = read(tmp_path / "p.paprikarecipes")
    assert item.recipe.id == "A-1"
    assert item.recipe.ingredients == ("1 cup rice", "2 cups stock")
    assert item.recipe.instructions == ("Fry.", "Simmer.")
    assert item.recipe.category == "Dinner"
    assert (photos, notes) == ([jpeg(3)], [])


@pytest.mark.parametrize("photo", ["full.jpg", "FULL.JPG", "full.heic"])
def test_nextcloud_cookbook(tmp_path: Path, photo: str) -> None:
    """A folder a recipe: `full.jpg` beside recipe.json was no photo, without a word."""
    for number in (1, 2):
        folder = tmp_path / "Recipes" / f"Pilaf {number}"
        folder.mkdir(parents=True)
        node = {"@context": "http://schema.org", "@type": "Recipe", "name": f"Pilaf {number}",
                "recipeIngredient": ["rice"], "image": "https://example.org/a.jpg"}  # fmt: skip
        (folder / "recipe.json").write_text(json.dumps(node))
        (folder / photo).write_bytes(jpeg(number))
        (folder / "thumb.jpg").write_bytes(b"small")
    actual, photos, notes = read(tmp_path / "Recipes")
    assert len(actual) == 2
    assert photos == [jpeg(1), jpeg(2)]
    assert notes == []


COOK = """---
title: Mash
course: dinner
---
>> source: https://example.org/mash
-- a comment
> A note, no step.

= Potatoes

Mash @potato{2%kg}(peeled) with @butter{} and
@salt in a #large pot{} [- slowly -] for ~{5%minutes}. -- done

Add @sea salt{1%pinch} and @./sauces/Gravy{150%g}.
"""


def test_cooklang() -> None:
    """Marks become lines of ingredients, and leave readable steps."""
    (record,) = read_cooklang(COOK.encode(), "x/mash.cook")
    recipe = Recipe.parse(record.fields, where="mash.cook")
    assert recipe.ingredients == (
        "2 kg potato, peeled", "butter", "salt", "1 pinch sea salt", "150 g Gravy",
    )  # fmt: skip
    assert recipe.instructions == (
        "Potatoes",
        "Mash potato (peeled) with butter and salt in a large pot for 5 minutes.",
        "Add sea salt and Gravy.",
    )
    assert (recipe.title, recipe.category) == ("Mash", "dinner")


@pytest.mark.parametrize(
    "value", ['!!int ""', "0x", "!!timestamp x", "? [a]: b", "2026-99-99", "1:"]
)
def test_front_matter_that_is_no_number_or_date_ends_no_import(value: str) -> None:
    """PyYAML's makers of values raise IndexErrors and others on these."""
    with contextlib.suppress(InputError):
        read_cooklang(f"---\nservings: {value}\n---\nFry @eggs{{2}}.\n".encode(), "x.cook")


def test_marks_inside_words_are_none() -> None:
    """An address of mail gave an ingredient, and "@@" left a sign in the step."""
    (record,) = read_cooklang(b"Ask me@home.org. Add @@dough{} (@salt).", "x.cook")
    assert record.fields["ingredients"] == ["dough", "salt"]
    assert record.fields["instructions"] == ["Ask me@home.org. Add dough (salt)."]


def test_a_folder_of_cooklang(tmp_path: Path) -> None:
    """The title is the file's name, the photo has it too."""
    (tmp_path / "Baked Potato.cook").write_text("Bake @potato{1}.")
    (tmp_path / "Baked Potato.JPG").write_bytes(jpeg(4))
    (item,), photos, _ = read(tmp_path)
    assert item.recipe.title == "Baked Potato"
    assert photos == [jpeg(4)]


@given(st.text(alphabet="@#~{}%()[]-=> a\\\n", max_size=80))
def test_fuzzed_cooklang(text: str) -> None:
    """Any text is a recipe or a line that says why not."""
    for record in read_cooklang(text.encode(), "x.cook"):
        if record.fields["ingredients"]:
            assert Recipe.parse(record.fields, where="x.cook").title == "x"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables(delimiter: str, encoding: str) -> None:
    """Spreadsheets of any country and program, with cells of several lines."""
    rows = [
        ["Recipe Name", "Ingredients", "Directions", "Photo"],
        ["Crème", '"1 egg\r\n2 cups milk"', '"Mix, well.\nBake."', "a.jpg"],
        ["Salad", "leeks|1 egg", "Slice.", ""],
        ["Soup", '"[""2 leeks, sliced"", ""salt""]"', "\"['Boil.', 'Serve.']\"", ""],
    ]
    table = "\r\n" + "\r\n".join(delimiter.join(row) for row in rows)
    records = [
        Recipe.parse(record.fields, where="x")
        for record in read_table(table.encode(encoding), "t.csv")
    ]
    assert [recipe.title for recipe in records] == ["Crème", "Salad", "Soup"]
    assert [recipe.ingredients for recipe in records] == [
        ("1 egg", "2 cups milk"), ("leeks", "1 egg"), ("2 leeks, sliced", "salt"),
    ]  # fmt: skip
    assert [recipe.instructions for recipe in records] == [
        ("Mix, well.", "Bake."), ("Slice.",), ("Boil.", "Serve."),
    ]  # fmt: skip
    assert records[0].image == "a.jpg"


def test_numbered_columns_and_a_table_without_ingredients() -> None:
    """Forms write a column an ingredient; a table of something else is named with its columns."""
    table = b"title,Ingredient 1,Ingredient 2,Step 1\nSoup,2 leeks,salt,Boil.\nTea,tea,,\n"
    records = [Recipe.parse(r.fields, where="x") for r in read_table(table, "t.csv")]
    assert [recipe.ingredients for recipe in records] == [("2 leeks", "salt"), ("tea",)]
    with pytest.raises(InputError, match=r"no column is called ingredients.*price"):
        list(read_table(b"name,price\nSoup,3\n", "t.csv"))


def test_a_photo_named_without_suffix(tmp_path: Path) -> None:
    """Data sets name photos by their stem and keep them in a folder of their own."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "miso-soup.jpg").write_bytes(jpeg(5))
    (tmp_path / "t.csv").write_text("Title,Ingredients,Image_Name\nMiso,\"['miso']\",miso-soup\n")
    _, photos, _ = read(tmp_path / "t.csv")
    assert photos == [jpeg(5)]


def test_json_with_other_names() -> None:
    """`name`, `directions`, `photo` and lists of objects were unknown: no title, no steps."""
    record = {
        "name": "Pilaf", "photo": "p.jpg", "method": "Fry.\nSimmer.", "link": "https://x.org/p",
        "recipe_ingredients": [{"quantity": 2, "unit": "cups", "ingredient": "rice"}, "salt"],
        "course": ["Dinner"], "split": "test",
    }  # fmt: skip
    recipe = Recipe.parse(record, where="x")
    assert recipe.ingredients == ("2 cups rice", "salt")
    assert recipe.instructions == ("Fry.", "Simmer.")
    assert (recipe.title, recipe.image, recipe.category) == ("Pilaf", "p.jpg", "Dinner")
    assert (recipe.url, recipe.partition) == ("https://x.org/p", "test")
    both = Recipe.parse({"title": "A", "name": "B", "ingredients": ["x"]}, where="x")
    assert both.title == "A"


def test_shapes_of_json_files(tmp_path: Path) -> None:
    """A list, a list under a key, records by their ids, and one record: all are seen about."""
    soup = {"title": "Soup", "ingredients": ["leeks"], "image": ["a.jpg"], "category": ["Soups"]}
    tea = {"Title": "Tea", "Ingredients": "tea"}
    (tmp_path / "a.JPG").write_bytes(jpeg(7))
    for value in ([soup, tea], {"recipes": [soup, tea]}, {"x": soup, "y": tea}):
        (tmp_path / "r.json").write_bytes(json.dumps(value).encode("utf-16"))
        actual, photos, notes = read(tmp_path / "r.json")
        assert [item.recipe.title for item in actual] == ["Soup", "Tea"]
        assert actual[0].recipe.category == "Soups"
        assert (photos, notes) == ([jpeg(7)], [])
    assert [item.recipe.id for item in actual] == ["x", "y"]


def test_unknown_keys_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A slip of the pen lost a field of every record without a word, or said so a million times."""
    path = tmp_path / "r.jsonl"
    line = json.dumps({"ingredients": ["x"], "instuctions": "Mix.", "rating": 5})
    path.write_text(f"{line}\n" * 3)
    with caplog.at_level(logging.WARNING, "hficma"):
        assert len(list(read_jsonl(path))) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the key 'instuctions' is unknown and passed over; did you mean 'instructions'?"
    ]
    with pytest.raises(InputError, match="'ingrediants' is unknown, did you mean 'ingredients'"):
        Recipe.parse({"title": "x", "ingrediants": ["y"]}, where="x")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_lines_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    """Editors on Windows write one: the first line was no JSON, or the file no text."""
    text = "".join(json.dumps({"title": f"Crème {n}", "ingredients": ["x"]}) + "\r\n" for n in "ab")
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    path = tmp_path / "r.jsonl"
    path.write_bytes(mark + text.replace("\\u00e8", "è").encode(encoding))
    titles = [recipe.title for recipe in read_jsonl(path, strict=True)]
    assert titles == ["Crème a", "Crème b"]


def test_a_file_of_something_else_ends_soon(tmp_path: Path) -> None:
    """A gzip of a megabyte may hold a billion lines, each of which would be named."""
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(b"1\n" * 2_000_000))
    lines = read_jsonl_lines(path)
    with pytest.raises(InputError, match="none of the first 10,000 lines is a recipe"):
        list(lines)


def test_special_files_are_named(tmp_path: Path) -> None:
    """A pipe hung for ever, a device took all memory; the others go on."""
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.html").symlink_to("/dev/zero")
    (tmp_path / "c.json").write_text(json.dumps({"ingredients": ["x"], "image": "/dev/zero"}))
    (tmp_path / "d.csv").mkdir()
    actual, photos, notes = read(tmp_path)
    assert len(actual) == 1
    assert photos == []
    assert ["is a pipe" in notes[0], "is a device" in notes[1], len(notes)] == [True, True, 2]


def nested(depth: int) -> bytes:
    content = zipped({"r.json": "{}"})
    for _ in range(depth):
        content = zipped({"n.zip": content})
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 not whole", "is no whole ZIP archive"),
        (zipped({"a.json": b" " * 200_000_000}), "unpacks to over 200 times its size"),
        (nested(ARCHIVE_DEPTH + 1), "archives deep"),
    ],
    ids=["damaged", "bomb", "nested"],
)
def test_hostile_archives(tmp_path: Path, content: bytes, said: str) -> None:
    """One line each, within memory."""
    (tmp_path / "x.zip").write_bytes(content)
    _, _, notes = read(tmp_path / "x.zip")
    assert any(said in note for note in notes)


def test_names_in_an_archive_reach_nothing_outside(tmp_path: Path) -> None:
    """`../` in a member's name or a photo's is looked up among the archive's own names."""
    (tmp_path / "secret.jpg").write_bytes(jpeg(6))
    (tmp_path / "in").mkdir()
    record = {"ingredients": ["x"]}
    names = ("../secret.jpg", str(tmp_path / "secret.jpg"), "../../secret.jpg")
    files: dict[str, bytes | str] = {
        f"../r{n}.json": json.dumps({**record, "title": str(n), "image": name})
        for n, name in enumerate(names)
    }
    (tmp_path / "in" / "x.zip").write_bytes(zipped(files))
    actual, photos, _ = read(tmp_path / "in" / "x.zip")
    assert len(actual) == 3
    assert photos == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "secret.jpg"]


def test_files_of_a_tree_come_in_order(tmp_path: Path) -> None:
    """A killed import goes on where it was only if the order is always the same."""
    names = ["b.json", "a/x.json", "a/.hidden.json", "c.zip"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(
            zipped({"z.json": "{}", "__MACOSX/._z.json": "", "y.json": "{}"})
        )
    assert list(FileTree(tmp_path).walk()) == [
        "b.json",
        "c.zip//y.json",
        "c.zip//z.json",
        "a/x.json",
    ]


def test_damaged_base64_is_named(tmp_path: Path) -> None:
    """A photo that is none ends the photo."""
    record: dict[str, Any] = {"name": "P", "ingredients": "x", "photo_data": "*not base64*"}
    (tmp_path / "p.json").write_text(json.dumps(record))
    source = open_source(str(tmp_path / "p.json"))
    (item,) = source.recipes(strict=True, on_bad=print, scratch=tmp_path)
    with pytest.raises(InputError, match="is no base64"):
        source.photo(item.images[0])


def test_an_archive_with_a_member_without_a_name_ends_no_import(tmp_path: Path) -> None:
    """zipfile of Python 3.11 raises an IndexError on one; later ones read past it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "{}")
    # The name's length is at 28 of its entry in the directory, which ends the file before the
    # last 22 bytes; a name of no bytes shifts what follows, so the name becomes an extra field.
    content = bytearray(buffer.getvalue())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 28 : entry + 32] = bytes((0, 0, 1, 0))
    (tmp_path / "x.zip").write_bytes(content)
    (tmp_path / "Soup.cook").write_text("Boil @leeks{2}.")
    (item,), _, notes = read(tmp_path)
    assert item.recipe.title == "Soup"
    assert sys.version_info >= (3, 12) or "x.zip" in notes[0]


@pytest.mark.parametrize(
    "text",
    [
        lambda one, two: f"{json.dumps(one)}\n{json.dumps(two)}\n",
        lambda one, two: json.dumps({"recipes": {"a": one, "b": two}}),
        lambda one, two: json.dumps({"data": {"recipes": [one, two]}}),
        lambda one, two: json.dumps({"results": [{**one, "id": "1"}, two]}),
    ],
)
def test_json_of_careless_people(tmp_path: Path, text: Any) -> None:
    """JSON lines named .json were refused as a whole, and so was what a program wraps."""
    one, two = ({"name": name, "ingredients": ["1 leek"]} for name in ("Pot", "Pan"))
    (tmp_path / "r.json").write_text(text(one, two))
    actual, _, notes = read(tmp_path / "r.json")
    assert not notes
    assert [record.recipe.title for record in actual] == ["Pot", "Pan"]


@pytest.mark.parametrize("wrapper", ["recipe", "a1"])
def test_one_record_in_an_object_of_its_own(tmp_path: Path, wrapper: str) -> None:
    """A file of one record by its id had "no ingredients"; files of {"recipe": ...} are many."""
    record = {wrapper: {"name": "Pot", "ingredients": ["1 leek"]}}
    (tmp_path / "r.json").write_text(json.dumps(record))
    (actual,), _, _ = read(tmp_path / "r.json")
    assert actual.recipe.title == "Pot"
    assert (actual.recipe.id == "a1") == (wrapper == "a1")


def test_cells_with_tags() -> None:
    """A table exported from a site had one ingredient a recipe: tags parted the others."""
    table = (
        b'title,ingredients,steps\nPot,1 leek<br/>2 eggs,"<ol><li>Boil.</li><li>Eat.</li></ol>"\n'
    )
    (record,) = read_table(table, "t.csv")
    recipe = Recipe.parse(record.fields, where="x")
    assert recipe.ingredients == ("1 leek", "2 eggs")
    assert recipe.instructions == ("Boil.", "Eat.")


def test_a_row_of_more_cells_than_columns_is_named(tmp_path: Path) -> None:
    """A comma without quotes made a step of the second ingredient, and lost the steps."""
    rows = "title,ingredients,steps\nPot,1 leek, 2 eggs,Boil.\nPan,salt,Fry.,,\n"
    (tmp_path / "t.csv").write_text(rows)
    actual, _, notes = read(tmp_path / "t.csv")
    assert [record.recipe.title for record in actual] == ["Pan"]
    assert len(notes) == 1
    assert "t.csv line 2: has more cells" in notes[0]
