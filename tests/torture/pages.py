"""Damages saved pages, exports and tables at random and reads folders of them.

Every file gives recipes or is named with a reason, the others beside it are read, and none takes
longer than `SLOW`.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

from hficma.data.sources.folder import FolderSource
from hficma.errors import InputError
from tests.torture.damage import damaged

SLOW = 40.0
"""Seconds for a folder, on a machine that does something else too."""
FILES = 12

NODE = {
    "@context": "https://schema.org", "@type": "Recipe", "name": "Crème of leek",
    "recipeIngredient": ["2 leeks", "1/2 cup cream &amp; milk"], "image": "photo.jpg",
    "recipeInstructions": [{"@type": "HowToSection", "itemListElement": [
        {"@type": "HowToStep", "text": "Slice <b>the</b> leeks."}]}],
}  # fmt: skip
RECORD = {
    "name": "Crème of leek", "ingredients": ["2 leeks"], "directions": "Slice.\nBake.",
    "photo": "photo.jpg",
}  # fmt: skip
JSON_LD = f'<html><script type="application/ld+json">{json.dumps(NODE)}</script></html>'
MICRODATA = (
    '<html><meta charset="latin-1"><div itemscope itemtype="http://schema.org/Recipe">'
    '<h1 itemprop="name">Crème of leek</h1><p itemprop="recipeIngredient">2 leeks</p>'
    '<div itemprop="recipeInstructions">Slice.</div></div></html>'
)
RDFA = (
    '<html vocab="http://schema.org/"><div typeof="Recipe"><h1 property="name">Leek</h1>'
    '<p property="recipeIngredient">2 leeks</p></div></html>'
)


def run(seconds: float, seed: int) -> dict[str, int]:
    """Read for `seconds`; return counts; `lost`, `wrong` and `hung` must be zero."""
    counts = {"files": 0, "read": 0, "named": 0, "lost": 0, "wrong": 0, "hung": 0}
    chance = random.Random(seed)
    seeds = _seeds()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "recipes"
            folder.mkdir()
            for number in range(FILES):
                suffix = chance.choice(list(seeds))
                content = seeds[suffix]
                if number:  # the first is whole: it must be read whatever lies beside it
                    content = damaged(content, chance)
                (folder / f"{number:02d}{suffix.split('/')[-1]}").write_bytes(content)
            began = time.monotonic()
            notes: list[str] = []
            try:
                found = list(
                    FolderSource(folder).recipes(
                        strict=False, on_bad=notes.append, scratch=Path(scratch)
                    )
                )
            except InputError as error:  # where not one file of the folder is usable
                found, notes = [], [*notes, str(error)]
            except Exception:
                counts["wrong"] += 1
                print(traceback.format_exc()[-1500:], flush=True)
                continue
            counts["hung"] += time.monotonic() - began > SLOW
            counts["files"] += FILES
            counts["read"] += len(found)
            counts["named"] += len(notes)
            titles = [recipe.recipe.title for recipe in found]
            counts["lost"] += not any("leek" in title.lower() for title in titles)
    return counts


def _seeds() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("recipes/leek/recipe.json", json.dumps(NODE))
        file.writestr("recipes/leek/full.jpg", b"\xff\xd8\xff\xd9")
    paprika = io.BytesIO()
    with zipfile.ZipFile(paprika, "w") as file:
        record = {"name": "Leek", "ingredients": "2 leeks\n1 egg", "directions": "Slice."}
        file.writestr("leek.paprikarecipe", gzip.compress(json.dumps(record).encode()))
    return {
        "ld/.html": JSON_LD.encode(),
        "microdata/.HTML": MICRODATA.encode("latin-1"),
        "rdfa/.htm": RDFA.encode("utf-16"),
        "node/.json": json.dumps(NODE).encode("utf-8-sig"),
        "list/.json": json.dumps([RECORD, RECORD | {"name": "Leek pie"}]).encode(),
        ".csv": "name;ingredients;directions\nLeek;2 leeks|1 egg;Slice.\n".encode("utf-16"),
        ".cook": b"---\ntitle: Leek\n---\nSlice @leeks{2} in a #pan{} for ~{5%minutes}.\n",
        ".paprikarecipes": paprika.getvalue(),
        ".zip": archive.getvalue(),
    }
