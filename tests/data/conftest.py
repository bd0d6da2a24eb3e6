"""One small Recipe1M, written in every form in which people have it, with the forms' own tools."""

from __future__ import annotations

import html
import io
import json
import pickle
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hficma.recipe import Recipe

DIM = 8  # of word vectors
SENTENCE_DIM = 16  # of sentence vectors; 1024 as published
WORDS = ("</s>", "salt", "olive_oil", "flour", "ripe_tomatoes", "eggs", "sugar")
CLASSES = {0: "background", 1: "tomato salad", 2: "sugar cake"}
PARTS = ("train", "val", "test")


@dataclass
class Entry:
    recipe: Recipe
    names: tuple[str, ...]
    image: str
    jpeg: bytes
    vectors: np.ndarray
    class_number: int


@dataclass
class Corpus:
    entries: list[Entry]
    table: np.ndarray = field(
        default_factory=lambda: np.random.default_rng(1).normal(size=(len(WORDS), DIM)).astype("f4")
    )

    def of(self, part: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.recipe.partition == part]


def make_entry(number: int, part: str) -> Entry:
    rng = np.random.default_rng(number)
    identity = f"{rng.integers(16**10):010x}"
    names = ("olive oil", "ripe tomatoes", "salt") if number % 2 else ("eggs", "flour", "sugar")
    pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120)).save(buffer, "JPEG")
    steps = tuple(f"Step {step}: mix & wait, at 180°." for step in range(1 + number % 3))
    class_number = (0, 1, 2)[number % 3]
    recipe = Recipe(
        id=identity,
        title=f"Dish №{number}",
        ingredients=tuple(f"{number + 1} cups of {name}" for name in names),
        instructions=steps,
        partition=part,
        url=f"http://example.org/{number}",
        category=CLASSES[class_number] if class_number else None,
    )
    vectors = rng.normal(size=(len(steps), SENTENCE_DIM)).astype("f4")
    image = f"{rng.integers(16**10):010x}.jpg"
    return Entry(recipe, names, image, buffer.getvalue(), vectors, class_number)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    parts = ["train"] * 5 + ["val"] * 2 + ["test"] * 2
    return Corpus([make_entry(number, part) for number, part in enumerate(parts)])


class T7Writer:
    """Torch7's binary format: int32 type tags, 64-bit lengths."""

    def __init__(self) -> None:
        self.out = io.BytesIO()
        self.index = 0

    def write(self, value: Any) -> bytes:
        self._any(value)
        return self.out.getvalue()

    def _pack(self, form: str, *values: Any) -> None:
        self.out.write(struct.pack("<" + form, *values))

    def _string(self, text: str) -> None:
        self._pack("i", len(text))
        self.out.write(text.encode())

    def _new(self) -> None:
        self.index += 1
        self._pack("i", self.index)

    def _any(self, value: Any) -> None:
        if value is None:
            self._pack("i", 0)
        elif isinstance(value, bool):
            self._pack("ii", 5, value)
        elif isinstance(value, (int, float)):
            self._pack("id", 1, value)
        elif isinstance(value, str):
            self._pack("i", 2)
            self._string(value)
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        else:
            pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
            self._pack("i", 3)
            self._new()
            self._pack("i", len(value))
            for key, item in pairs:
                self._any(key)
                self._any(item)

    def _tensor(self, array: np.ndarray) -> None:
        kind = {"f4": "Float", "f8": "Double", "u1": "Byte", "i8": "Long", "i4": "Int"}
        name = kind[array.dtype.str[1:]]
        self._pack("i", 4)
        self._new()
        self._string("V 1")
        self._string(f"torch.{name}Tensor")
        self._pack("i", array.ndim)
        self._pack(f"{array.ndim}q", *array.shape)
        self._pack(f"{array.ndim}q", *(step // array.itemsize for step in array.strides))
        self._pack("q", 1)
        self._pack("i", 4)
        self._new()
        self._string("V 1")
        self._string(f"torch.{name}Storage")
        self._pack("q", array.size)
        self.out.write(array.tobytes())


def write_images(corpus: Corpus, root: Path, *, by_split: bool) -> None:
    for entry in corpus.entries:
        split = (entry.recipe.partition or "") if by_split else ""
        folder = root.joinpath("images", split, *entry.image[:4])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / entry.image).write_bytes(entry.jpeg)


def layer1(corpus: Corpus) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.recipe.id,
            "title": entry.recipe.title,
            "ingredients": [{"text": text} for text in entry.recipe.ingredients],
            "instructions": [{"text": text} for text in entry.recipe.instructions],
            "partition": entry.recipe.partition,
            "url": entry.recipe.url,
        }
        for entry in corpus.entries
    ]


def write_classes(corpus: Corpus, root: Path) -> None:
    with (root / "classes1M.pkl").open("wb") as file:
        pickle.dump({entry.recipe.id: entry.class_number for entry in corpus.entries}, file, 2)
        pickle.dump(CLASSES, file, 2)


def write_vocabulary(corpus: Corpus, root: Path) -> None:
    """`vocab.bin` by gensim, and `vocab.txt`, one word a line."""
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(DIM)
    vectors.add_vectors(list(WORDS), corpus.table)
    vectors.save_word2vec_format(str(root / "vocab.bin"), binary=True, sort_attr=None)
    (root / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


@pytest.fixture
def layers(corpus: Corpus, tmp_path: Path) -> Path:
    """Recipe1M as its authors publish it, with the split level in the image folders."""
    root = tmp_path / "layers"
    root.mkdir()
    write_images(corpus, root, by_split=True)
    removed = {"id": "00000bad00", "title": "Taken back", "ingredients": [{"text": "salt"}]}
    removed |= {"instructions": [], "partition": "train", "url": ""}
    (root / "layer1.json").write_text(json.dumps([removed, *layer1(corpus)], indent=1))
    layer2 = [
        {"id": entry.recipe.id, "images": [{"id": entry.image, "url": "http://x"}]}
        for entry in corpus.entries
    ]
    (root / "layer2.json").write_text(json.dumps(layer2))
    detected = [
        {
            "id": entry.recipe.id,
            "valid": [True, False, True, True],
            "ingredients": [{"text": text} for text in (names[0], "junk", *names[1:])],
        }
        for entry in corpus.entries
        for names in [entry.names]
    ]
    (root / "det_ingrs.json").write_text(json.dumps(detected))
    (root / "remove1M.txt").write_text("00000bad00\nffffffffff\n")
    write_classes(corpus, root)
    write_vocabulary(corpus, root)
    for part in PARTS:
        entries = corpus.of(part)
        counts = np.array([len(entry.vectors) for entry in entries])
        encoded = {
            "ids": np.array([list(entry.recipe.id.encode()) for entry in entries], dtype="u1"),
            "encs": np.concatenate([entry.vectors for entry in entries]),
            "rlens": counts.astype("f8"),
            "rbps": (np.cumsum(counts) - counts + 1).astype("f8"),
        }
        (root / f"encs_{part}_1024.t7").write_bytes(T7Writer().write(encoded))
    return root


def ingredient_ids(entry: Entry) -> list[int]:
    ids = [WORDS.index(name.replace(" ", "_")) + 2 for name in entry.names]
    return [*ids, 1, *[0] * (20 - len(ids) - 1)]


def new_lmdb(path: Path) -> Any:
    import lmdb

    path.mkdir(parents=True)
    return lmdb.open(str(path), map_size=1 << 24)


@pytest.fixture
def im2recipe(corpus: Corpus, tmp_path: Path) -> Path:
    """im2recipe-PyTorch's LMDBs, with the first layer for the text and Recipe1M+'s folders."""
    root = tmp_path / "im2recipe"
    root.mkdir()
    write_images(corpus, root, by_split=False)
    (root / "layer1.json").write_text(json.dumps(layer1(corpus)))
    write_classes(corpus, root)
    write_vocabulary(corpus, root)
    for part in PARTS:
        with new_lmdb(root / f"{part}_lmdb") as store, store.begin(write=True) as transaction:
            for entry in corpus.of(part):
                value = {
                    "ingrs": np.array(ingredient_ids(entry), dtype=np.uint16),
                    "intrs": entry.vectors,
                    "classes": entry.class_number + 1,
                    "imgs": [{"id": entry.image, "url": "http://x"}],
                }
                transaction.put(entry.recipe.id.encode("latin1"), pickle.dumps(value, 2))
        keys = [entry.recipe.id for entry in corpus.of(part)]
        (root / f"{part}_keys.pkl").write_bytes(pickle.dumps(keys, 2))
    return root


@pytest.fixture
def adamine(corpus: Corpus, tmp_path: Path) -> Path:
    """AdaMine's LMDB per field, its keys pickled by protocol 3, as published."""
    return write_adamine(corpus, tmp_path / "adamine", protocol=3)


@pytest.fixture
def adamine_new(corpus: Corpus, tmp_path: Path) -> Path:
    """The same made again under Python 3.8 or later, whose key bytes differ."""
    return write_adamine(corpus, tmp_path / "adamine_new", protocol=4)


def write_adamine(corpus: Corpus, root: Path, *, protocol: int) -> Path:
    torch = pytest.importorskip("torch", reason="AdaMine's files hold tensors")

    (root / "text").mkdir(parents=True)
    (root / "recipe1M").mkdir()
    (root / "recipe1M" / "layer1.json").write_text(json.dumps(layer1(corpus)))
    write_classes(corpus, root)
    vocabulary = [torch.from_numpy(corpus.table), list(WORDS)]
    (root / "text" / "vocab.pkl").write_bytes(pickle.dumps(vocabulary, protocol))
    for part in PARTS:
        entries = corpus.of(part)
        counts = [len(entry.vectors) for entry in entries]
        starts = np.cumsum(counts) - counts + 1
        photos = [Image.open(io.BytesIO(entry.jpeg)).convert("RGB") for entry in entries]
        rows = np.concatenate([entry.vectors for entry in entries])
        fields: dict[str, list[Any]] = {
            "ids": [entry.recipe.id for entry in entries],
            "classes": [entry.class_number + 1 for entry in entries],
            "numims": [1] * len(entries),
            "impos": [[position + 1] for position in range(len(entries))],
            "imnames": [entry.image for entry in entries],
            "ims": photos,
            "ingrs": [ingredient_ids(entry) for entry in entries],
            "rbps": [int(start) for start in starts],
            "rlens": counts,
            "stvecs": [torch.from_numpy(row.copy()) for row in rows],
        }
        for name, values in fields.items():
            path = root / "data_lmdb" / part / f"{name}.lmdb"
            with new_lmdb(path) as store, store.begin(write=True) as transaction:
                for position, value in enumerate(values):
                    key = pickle.dumps(position, protocol)
                    transaction.put(key, pickle.dumps(value, protocol))
    return root


@pytest.fixture
def jsonl(corpus: Corpus, tmp_path: Path) -> Path:
    """The project's own lines, photos beside them."""
    root = tmp_path / "own"
    root.mkdir()
    with (root / "recipes.jsonl").open("w", encoding="utf-8") as file:
        for entry in corpus.entries:
            (root / entry.image).write_bytes(entry.jpeg)
            file.write(json.dumps({**entry.recipe.to_json(), "image": entry.image}) + "\n")
    return root / "recipes.jsonl"


@pytest.fixture
def json_folder(corpus: Corpus, tmp_path: Path) -> Path:
    """A folder of one JSON file a recipe, photos of the same name beside them."""
    root = tmp_path / "folder"
    root.mkdir()
    for number, entry in enumerate(corpus.entries):
        path = root / f"{number:02d}.json"
        path.write_text(json.dumps(entry.recipe.to_json()), encoding="utf-8")
        path.with_suffix(".jpg").write_bytes(entry.jpeg)
    return root


@pytest.fixture
def json_ld(corpus: Corpus, tmp_path: Path) -> Path:
    """schema.org Recipes as sites publish them: alone, in a @graph, and in saved pages."""
    root = tmp_path / "pages"
    root.mkdir()
    for number, entry in enumerate(corpus.entries):
        recipe = entry.recipe
        name = root / f"{number:02d}"
        steps: list[Any] = [{"@type": "HowToStep", "text": step} for step in recipe.instructions]
        node = {
            "@context": "https://schema.org",
            "@type": ["Recipe"],
            "name": html.escape(recipe.title),
            "recipeIngredient": list(recipe.ingredients),
            "recipeInstructions": [{"@type": "HowToSection", "itemListElement": steps}],
            "image": {"@type": "ImageObject", "url": f"https://example.org/{entry.image}"},
            "url": recipe.url,
            "recipeCategory": [recipe.category] if recipe.category else None,
        }
        if number % 3 == 0:
            name.with_suffix(".jsonld").write_text(json.dumps(node), encoding="utf-8")
            (root / entry.image).write_bytes(entry.jpeg)
        elif number % 3 == 1:
            graph = {"@context": "https://schema.org", "@graph": [{"@type": "WebPage"}, node]}
            name.with_suffix(".json").write_text(json.dumps(graph), encoding="utf-8")
            (root / entry.image).write_bytes(entry.jpeg)
        else:
            script = f'<script type="application/ld+json">\n{json.dumps([node])}\n</script>'
            page = f"<!doctype html><html><head>{script}</head><body><p>Hi</body></html>"
            name.with_suffix(".html").write_text(page, encoding="utf-8")
            saved = root / f"{number:02d}_files"
            saved.mkdir()
            (saved / entry.image).write_bytes(entry.jpeg)
    return root
