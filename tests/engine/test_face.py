"""What a person's hands give the engine, and what they get back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from hficma.engine import Answer, Bundle, Engine, Failure, build_index
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe
from tests.engine.datasets import NoiseDataset

DATA = NoiseDataset(24)
PHOTOS = [DATA.photo(i) for i in range(32)]


@pytest.fixture(scope="module")
def recipes(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of recipes, never written to."""
    path = tmp_path_factory.mktemp("face") / "recipes"
    return build_index(hf_icma_bundle, DATA, path, shard_items=9)


@pytest.fixture(scope="module")
def photos(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of photos, never written to."""
    path = tmp_path_factory.mktemp("face") / "photos"
    return build_index(hf_icma_bundle, DATA, path, of="images", shard_items=9)


@pytest.fixture(scope="module")
def engine(recipes: Path) -> Iterator[Engine]:
    """Open over the recipes."""
    with Engine.open(recipes, threads=2) as opened:
        yield opened


def ids(answer: Answer | Failure) -> list[str]:
    assert isinstance(answer, Answer)
    return [hit.id for hit in answer.hits]


def scores(answer: Answer | Failure) -> list[float]:
    assert isinstance(answer, Answer)
    return [hit.score for hit in answer.hits]


@pytest.mark.parametrize("of", ["recipes", "images"])
def test_a_batch_is_prepared_in_one_run_and_answers_as_alone(
    of: str, recipes: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 queries were projected and tabulated one after the other.

    A runtime may sum in another order for a larger batch, so scores move in their last bits: by at
    most 1e-6, and no rank changes.
    """
    runs: Counter[str] = Counter()
    run = Bundle.run

    def counted(bundle: Bundle, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs[graph] += 1
        return run(bundle, graph, inputs)

    role = "image" if of == "recipes" else "recipe"
    queries = PHOTOS if of == "recipes" else [DATA.recipe(i) for i in range(32)]
    with Engine.open(recipes if of == "recipes" else photos, threads=2) as engine:
        alone = [engine.search(**{role: query}, k=24) for query in queries]
        monkeypatch.setattr(Bundle, "run", counted)
        together = list(engine.search_many(queries, k=24))
    assert runs[f"project_{role}"] == runs[f"tabulate_{role}"] == 1
    for one, other in zip(alone, together, strict=True):
        assert ids(one) == ids(other)
        np.testing.assert_allclose(scores(one), scores(other), rtol=0, atol=1e-6)


def test_a_photo_may_come_in_any_form(engine: Engine, tmp_path: Path) -> None:
    """A path in text, a Path, bytes, a file, an image, an array: all are the same photo."""
    image = PHOTOS[0]
    file = tmp_path / "photo.png"
    image.save(file)
    expected = engine.search(image=image, k=5)
    with file.open("rb") as opened:
        forms = [
            str(file), file, file.read_bytes(), bytearray(file.read_bytes()),
            memoryview(file.read_bytes()), opened, BytesIO(file.read_bytes()), Image.open(file),
            image.convert("RGBA"), np.asarray(image), np.asarray(image) / 255,
        ]  # fmt: skip
        for form in forms:
            answer = engine.search(image=form, k=5)
            assert (ids(answer), scores(answer)) == (ids(expected), scores(expected)), type(form)
        for answer in engine.search_many(forms, k=5):
            assert ids(answer) == ids(expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB",
                                  "I", "I;16", "F", "RGBX", "RGBa", "La"])  # fmt: skip
def test_an_image_may_be_of_any_mode(engine: Engine, mode: str) -> None:
    """Whatever Pillow makes of a scan, a screenshot or a film still."""
    if mode == "I;16":
        image = Image.fromarray(np.arange(0, 2**16, 4, dtype=np.uint16).reshape(128, 128))
    elif mode in ("RGBa", "La"):
        image = PHOTOS[0].convert(mode.replace("a", "A")).convert(mode)
    elif mode == "PA":
        image = PHOTOS[0].convert("P").convert("PA")
    elif mode == "LAB":
        image = Image.new("LAB", (80, 60), (120, 130, 140))
    else:
        image = PHOTOS[0].convert(mode)
    assert image.mode == mode
    assert len(engine.search(image=image, k=3).hits) == 3


def test_an_image_is_turned_as_its_file_is(engine: Engine) -> None:
    """A phone's photo lies on its side until its EXIF is followed, opened or not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    PHOTOS[0].resize((200, 320)).transpose(Image.Transpose.ROTATE_90).save(buffer, "png", exif=exif)
    upright = engine.search(image=PHOTOS[0].resize((200, 320)), k=5)
    for form in (buffer.getvalue(), Image.open(buffer)):
        assert scores(engine.search(image=form, k=5)) == scores(upright)


class Broken:
    """A file object of somebody else's, whose connection is gone."""

    def read(self, size: int = -1) -> bytes:
        raise ConnectionResetError(104, "connection reset by peer")


class Strange(os.PathLike[str]):
    """A path that fails when it is asked for."""

    def __fspath__(self) -> str:
        raise ZeroDivisionError("no path today")


class Sneaky(np.ndarray):
    """An array that fails when it is looked at."""

    @property
    def size(self) -> int:
        raise LookupError("gone")


BAD = [
    None, 3, 2.5, object(), ["a.jpg"], {"id": "x"}, "missing.jpg", Path("missing.jpg"), "", b"",
    b"no image", "\0", Broken(), BytesIO(), Strange(), np.full((9, 9, 3), np.nan),
    np.zeros((0, 9, 3), np.uint8), np.zeros((3, 9, 9), np.uint8), np.zeros(5),
    np.array(["text"]), np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3), complex),
    np.zeros((4, 4, 3), np.uint8).view(Sneaky), Image.new("RGB", (0, 5)),
    Recipe(id="a recipe", ingredients=("salt",)), open,
]  # fmt: skip


def test_a_bad_query_is_a_failure_whatever_is_wrong_with_it(engine: Engine) -> None:
    """One of them among a thousand ended all."""
    closed = Image.open(BytesIO(tiff()))
    closed.fp.close()
    queries = [query for bad in (*BAD, closed) for query in (bad, PHOTOS[0])]
    answers = list(engine.search_many(queries, k=3))
    assert len(answers) == len(queries)
    expected = ids(engine.search(image=PHOTOS[0], k=3))
    for query, answer in zip(queries, answers, strict=True):
        if query is PHOTOS[0]:
            assert ids(answer) == expected
        else:
            assert isinstance(answer, Failure), query
            assert answer.name
            assert answer.error
            assert "\n" not in answer.error
            json.dumps(answer.to_json())


def tiff() -> bytes:
    """A photo whose pixels Pillow reads only when they are asked for."""
    buffer = BytesIO()
    PHOTOS[0].save(buffer, TiffImagePlugin.TiffImageFile.format)
    return buffer.getvalue()


def test_a_bad_recipe_is_a_failure(photos: Path) -> None:
    """Without a word that the model knows it has no vector."""
    good = DATA.recipe(1)
    bad = [Recipe(id="empty"), Recipe(id="odd", ingredients=("xyzzy",)), "photo.jpg", None, 7, {}]
    with Engine.open(photos, threads=1) as engine:
        answers = list(engine.search_many([good, *bad, good], k=3))
        assert [type(answer) for answer in answers] == [Answer, *[Failure] * len(bad), Answer]
        for query in bad[2:]:
            with pytest.raises(InputError, match=r"recipe: is of type|one of them"):
                engine.search(recipe=query)


def test_the_bundle_s_damage_is_no_query_s_fault(
    engine: Engine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand failures would hide that the vocabulary is gone."""
    with Engine.open(photos, threads=1) as opened:

        def missing(_: object) -> None:
            raise ArtifactError("vocabulary.json: was changed")

        monkeypatch.setattr(Bundle, "tokenizer", property(missing))
        with pytest.raises(ArtifactError, match="was changed"):
            list(opened.search_many([DATA.recipe(0)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0: must be at least 1"),
        ({"k": -3}, "at least 1"),
        ({"k": 2.5}, "k is 2.5: must be a whole number"),
        ({"k": "3"}, "whole number"),
        ({"candidates": 0}, "candidates is 0"),
    ],
)
def test_options_of_no_use_are_refused_at_once(
    engine: Engine, options: dict[str, object], message: str
) -> None:
    """Not with the first answer, when a thousand photos are decoded."""
    with pytest.raises(InputError, match=message):
        engine.search(image=PHOTOS[0], **options)
    with pytest.raises(InputError, match=message):
        engine.search_many([PHOTOS[0]], **options)
    with pytest.raises(InputError, match="batch is 0"):
        engine.search_many([PHOTOS[0]], batch=0)


def test_one_query_is_not_taken_for_many(engine: Engine) -> None:
    """The letters of a path would be searched for one by one."""
    photo = np.asarray(PHOTOS[0])
    for one in ("photo.jpg", b"bytes", Path("photo.jpg"), DATA.recipe(0), PHOTOS[0], photo,
                BytesIO(), memoryview(b"bytes")):  # fmt: skip
        with pytest.raises(InputError, match="give a list"):
            engine.search_many(one)
        with pytest.raises(InputError, match="give a list"):
            engine.encode(images=one)
    with pytest.raises(InputError, match=r"search_many takes several .*; int is no list"):
        engine.search_many(3)
    together = list(engine.search_many(np.stack([photo, photo]), k=3))
    assert [ids(answer) for answer in together] == [ids(engine.search(image=photo, k=3))] * 2
    assert len(list(engine.search_many([], k=3))) == 0
    assert ids(engine.search(image=PHOTOS[0], k=np.int64(3)))


def test_an_index_is_opened_by_text_and_by_path(recipes: Path, hf_icma_bundle: Path) -> None:
    """Hands type text."""
    with Engine.open(str(recipes), bundle=str(hf_icma_bundle), threads=1) as opened:
        assert isinstance(opened.index.path, Path)
        assert ids(opened.search(image=PHOTOS[0], k=2))


def test_encode_gives_the_vectors_that_the_index_holds(engine: Engine, photos: Path) -> None:
    """So that other tools search by the same S_global; in any number, of both kinds."""
    recipes = [DATA.recipe(i) for i in range(24)]
    vectors = engine.encode(recipes=iter(recipes))
    assert vectors.dtype == np.float32
    stored = np.concatenate([np.asarray(shard.vectors[:]) for shard in engine.index.shards])
    np.testing.assert_allclose(vectors, stored, atol=1e-6)
    pixels = engine.encode(images=[*PHOTOS[:24], *PHOTOS])
    np.testing.assert_allclose(pixels[:24], pixels[24:48], atol=1e-6)
    with Engine.open(photos, threads=1) as opened:
        stored = np.concatenate([np.asarray(shard.vectors[:]) for shard in opened.index.shards])
        np.testing.assert_allclose(opened.encode(images=PHOTOS[:24]), stored, atol=1e-6)
    answer = engine.search(image=PHOTOS[0], k=24)
    for hit in answer.hits:
        product = pixels[0] @ vectors[int(hit.id.removeprefix("r"))]
        assert hit.global_score == pytest.approx(float(product), abs=1e-5)
    assert engine.encode(images=[]).shape == (0, vectors.shape[1])


def test_encode_names_what_it_cannot_read(engine: Engine) -> None:
    """By its number where it has no name; a kind for the other kind is no photo of it."""
    with pytest.raises(InputError, match=r"photo 2: .*Recipe"):
        engine.encode(images=[PHOTOS[0], DATA.recipe(0)])
    with pytest.raises(InputError, match=r"recipe 1: is of type str"):
        engine.encode(recipes=["photo.jpg"])
    with pytest.raises(InputError, match=r"missing.jpg"):
        engine.encode(images=["missing.jpg"])
    with pytest.raises(InputError, match=r"photo 1: cannot be read \(.*connection reset by peer"):
        engine.encode(images=[Broken()])
    for both in ({}, {"images": [], "recipes": []}):
        with pytest.raises(InputError, match="one of them"):
            engine.encode(**both)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
def test_closing_lets_go_of_files_threads_and_sessions(recipes: Path) -> None:
    """A server that reopens its index each night ran out of descriptors, or of memory."""

    def held() -> tuple[int, int, int]:
        maps = Path("/proc/self/maps").read_text().splitlines()
        mapped = sum(str(recipes) in line for line in maps)
        return len(os.listdir("/proc/self/fd")), mapped, threading.active_count()

    def use() -> Engine:
        with Engine.open(recipes, runtime="onnxruntime", threads=2) as engine:
            list(engine.search_many([*PHOTOS[:3], b"bad"], k=3, exact=True))
            engine.encode(images=PHOTOS[:2])
            assert held() > before
        return engine

    before = (0, 0, 0)
    use()
    before = held()
    closed = use()
    assert held() == before
    assert before[1] == 0
    for action in (
        lambda: closed.search(image=PHOTOS[0]),
        lambda: list(closed.search_many(PHOTOS[:2])),
        lambda: closed.encode(images=PHOTOS[:2]),
    ):
        with pytest.raises(InputError, match="this engine was closed; open it again"):
            action()


@pytest.mark.torch  # imports every module
def test_importing_hficma_changes_nothing_of_the_process() -> None:
    """A library that turns a program's warnings off, or seeds its generator, breaks it quietly.

    What others' packages do is theirs: they are imported before the first look.
    """
    program = """
        import importlib, logging, os, pkgutil, random, signal, sys, warnings
        import numpy as np

        def modules():
            import hficma
            for folder in ("", ".engine", ".export", ".training", ".benchmarks"):
                package = importlib.import_module("hficma" + folder)
                for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                    # libkernels is a library of C functions that ctypes loads, no module.
                    if not info.name.endswith(("__main__", ".libkernels")):
                        yield info.name

        def torch_state():
            try:
                import torch
            except ImportError:
                return None
            return (
                torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled(),
                torch.get_float32_matmul_precision(), torch.get_rng_state().tolist(),
            )

        def state():
            names = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
            return {
                "filters": list(warnings.filters),
                "showwarning": warnings.showwarning,
                "loggers": {
                    name: (logger.level, list(logger.handlers), logger.propagate, logger.disabled)
                    for name, logger in names.items()
                    if isinstance(logger, logging.Logger) and not name.startswith("hficma")
                },
                "hficma": (logging.getLogger("hficma").level, logging.getLogger("hficma").handlers),
                "logging": (logging.root.manager.disable, logging.getLoggerClass()),
                "environment": dict(os.environ),
                "torch": torch_state(),
                "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
                "path": list(sys.path),
                "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook),
                "random": random.getstate(),
                "numpy": np.random.get_state()[1].tolist(),
                "error handling": np.geterr(),
                "recursion": sys.getrecursionlimit(),
                "directory": os.getcwd(),
            }

        first = sys.argv[1] == "others"
        if not first:
            for name in sys.stdin.read().split():
                try:
                    importlib.import_module(name)
                except ImportError:
                    pass
            before = state()
        missing = []
        for name in modules():
            try:
                importlib.import_module(name)
            except ImportError as error:
                missing.append(f"{name}: {error}")
            except Exception as error:
                missing.append(f"{name}: {error}")
        if first:
            ours = ("hficma", "__main__")
            print(*sorted(n for n in sys.modules if n.split(".")[0] not in ours))
        else:
            after = state()
            changed = [key for key in before if before[key] != after[key]]
            assert not changed, {k: (before[k], after[k]) for k in changed}
            print(len([n for n in sys.modules if n.startswith("hficma")]), *missing, sep="\\n")
    """

    def run(turn: str, names: str = "") -> str:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), turn],
            input=names, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout

    seen = run("changes", run("others"))
    count, *missing = seen.splitlines()
    assert int(count) > 200, seen
    assert all("pip install" in line or "No module" in line for line in missing), missing


def test_typeguard_is_as_it_was_after_inflect_was_loaded() -> None:
    """Its decorator is taken out while inflect is imported, for a second's start."""
    program = """
        import typeguard
        before = typeguard.typechecked
        from hficma.text.inflection import singular
        assert singular("leaves") == "leaf"
        assert typeguard.typechecked is before
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
