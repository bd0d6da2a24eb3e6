"""Photos as people have them: odd ones work, bad ones are named in one line."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hficma.data.dataset import RecipeList
from hficma.data.photos import reduced_photo
from hficma.data.subset import Subset
from hficma.errors import InputError
from hficma.images import (
    ImageInput,
    decode_photo,
    decode_pixels,
    load_photo,
    preprocess,
    read_photo,
    resize_short_side,
    upright,
)
from hficma.images import decoding as image_decoding
from hficma.recipe import Recipe
from tests.photo_zoo import (
    BAD,
    GOOD,
    JPEG,
    PNG,
    chunk,
    encoded,
    halves,
    is_upright,
    noise,
    of_many_scans,
    on_its_side,
    special_files,
)

INPUT = ImageInput()
"""What torchvision's classifiers read."""

SORTS = {
    "jpeg": JPEG,
    "progressive": encoded(halves(), "JPEG", progressive=True),
    "cmyk": encoded(halves().convert("CMYK"), "JPEG"),
    "png": PNG,
    "palette": encoded(halves().convert("P"), "PNG"),
    "webp": encoded(halves(), "WEBP"),
    "gif": encoded(halves(), "GIF"),
    "bmp": encoded(halves(), "BMP"),
    "tiff": encoded(halves(), "TIFF"),
}


@pytest.mark.parametrize("name", GOOD)
def test_pixels_are_those_of_the_photo(name: str) -> None:
    """Training reads pixels, an index photos: a turned or inked one would look different there."""
    pixels = decode_pixels(GOOD[name], name=name)
    assert np.array_equal(pixels, decode_photo(GOOD[name], name=name))
    assert pixels.flags.writeable


@pytest.mark.parametrize("name", BAD)
def test_pixels_of_a_bad_photo_are_refused_in_the_same_line(name: str) -> None:
    """Else a damaged photo would end a worker, or an epoch, where an import names it."""
    content, reason = BAD[name]
    with pytest.raises(InputError, match=reason):
        decode_pixels(content, name=name)


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_is_decoded(sort: str) -> None:
    """A photo's format must not change what is seen."""
    photo = decode_photo(SORTS[sort], name=sort)
    assert photo.mode == "RGB"
    assert photo.size == (64, 48)
    assert is_upright(photo)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_exif_rotation(orientation: int, kind: str) -> None:
    """Phones store photos lying on their side and say so: a dish must not be searched rotated.

    A HEIC or AVIF says it in its container, and many again in their EXIF: turned once, not twice.
    """
    photo = decode_photo(on_its_side(orientation, kind), name="phone")
    assert photo.size == (64, 48)
    assert is_upright(photo)


def test_16_bit() -> None:
    """A 16-bit scan uses the whole range; clipped, it would be white."""
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    photo = decode_photo(encoded(Image.fromarray(ramp), "PNG"), name="scan")
    values = np.asarray(photo)[..., 0].ravel()
    assert values[0] < 5
    assert 120 < values[len(values) // 2] < 136
    assert values[-1] > 250


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_over_white(mode: str) -> None:
    """Pillow's own conversion shows whatever colour lies hidden under transparency."""
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    photo = decode_photo(encoded(image.convert(mode), "PNG"), name="cut-out")
    if mode == "P":  # conversion to a palette keeps transparency only where it is declared
        content = encoded(Image.new("P", (8, 8), 0), "PNG", transparency=0)
        photo = decode_photo(content, name="palette")
    assert photo.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("name", GOOD)
def test_the_zoo_is_read(name: str) -> None:
    """What browsers and phones show must not be refused, nor seen on its side."""
    assert is_upright(decode_photo(GOOD[name], name=name))


@pytest.mark.parametrize("name", BAD)
def test_the_zoo_is_refused_in_one_line(name: str) -> None:
    """What is wrong and what to do, and quickly: others wait for their turn."""
    content, said = BAD[name]
    began = time.thread_time()
    with pytest.raises(InputError, match=said) as caught:
        decode_photo(content, name=name)
    assert time.thread_time() - began < 0.5
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


def test_scans_are_counted_before_they_are_decoded() -> None:
    """A thousand scans of 100 megapixels are 600 KB, and 83 s of work."""
    began = time.thread_time()
    with pytest.raises(InputError, match="take too long"):
        decode_photo(of_many_scans((9990, 1000), 1000), name="bomb")
    # A comment between scans must not hide those behind it, whatever stands in it.
    hidden = of_many_scans((4000, 4000), 1000)
    first = hidden.index(b"\xff\xda")
    comment = b"\xff\xfe\0\4\xff\xd9"
    with pytest.raises(InputError, match="take too long"):
        decode_photo(hidden[:first] + comment + hidden[first:], name="bomb")
    assert time.thread_time() - began < 2
    photo = decode_photo(of_many_scans((640, 480), 30), name="photo")
    assert photo.size == (640, 480)


def test_a_jpeg_of_segments_only_ends() -> None:
    """Each empty comment has four bytes; a loop over a hundred million takes a minute."""
    began = time.thread_time()
    with pytest.raises(InputError, match="segments"):
        decode_photo(JPEG[:2] + b"\xff\xfe\0\2" * 2_000_000 + JPEG[2:], name="bomb")
    assert is_upright(decode_photo(JPEG[:2] + b"\xff" * 20_000_000 + JPEG[2:], name="filled"))
    assert time.thread_time() - began < 2


def test_parsers_in_python_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks without end keep Pillow's own loops busy, not its decoders."""
    monkeypatch.setattr(image_decoding._CountedReads, "_remaining", 1000)
    assert decode_photo(PNG, name="plain.png").size == (64, 48)
    comments = b"GIF89a\1\0\1\0\0\0\0" + (b"\x21\xfe" + b"\1a" * 200 + b"\0") * 10
    with pytest.raises(InputError, match="pieces"):
        decode_photo(comments, name="comments.gif")
    # Chunks that no pixel needs are left out before the parser is asked again.
    extra = chunk(b"abCd", b"") * 1000
    assert decode_photo(PNG[:33] + extra + PNG[33:], name="chunks.png").size == (64, 48)
    with pytest.raises(InputError, match="pieces"):
        decode_photo(PNG[:33] + chunk(b"IDAT", b"") * 1000 + PNG[33:], name="chunks.png")


@pytest.mark.parametrize(
    ("size", "progressive"), [((16_320, 12_240), False), ((12_000, 9_000), True)]
)
def test_phone_photos_of_200_megapixels(size: tuple[int, int], progressive: bool) -> None:
    """Phones take them; decoded whole they would be 800 MB."""
    content = encoded(Image.new("L", size, 90), "JPEG", progressive=progressive)
    photo = decode_photo(content, name="phone.jpg")
    assert 512 <= min(photo.size) < 2048
    assert abs(np.asarray(photo).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "HEIC"])
def test_a_photo_keeps_the_pixels_that_its_encoder_reads(kind: str, tmp_path: Path) -> None:
    """An encoder of 700 pixels would be shown 512, enlarged; others, another photo than before."""
    file = tmp_path / f"large.{kind.lower()}"
    file.write_bytes(encoded(halves((2100, 2060)), kind))
    reads = ImageInput(size=700, short_side=800)
    assert (INPUT.least_side, reads.least_side) == (512, 889)
    recipes = RecipeList([Recipe(id="a", title="A", image=file.name)], name="r", folder=tmp_path)
    photos = Subset(recipes, np.array([0]))
    for least, factor in ((512, 4), (reads.least_side, 2)):
        photo = reduced_photo(photos, 0, least)
        assert photo.size == (2100 // factor, 2060 // factor)
        for source in (file, file.read_bytes(), io.BytesIO(file.read_bytes())):
            assert np.array_equal(load_photo(source, enough=least), photo)
    assert np.array_equal(read_photo(file), photos.photo(0))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1700), st.integers(1, 1700), st.integers(0, 5))
def test_a_heic_is_reduced_in_parts(width: int, height: int, padding: int) -> None:
    """200 megapixels in Pillow's four bytes each would be held twice; a seam would show."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)))
    small = image_decoding._reduced(
        memoryview(rows.tobytes()), "RGB", (width, height), 3 * width + padding
    )
    factor = max(1, min(width, height) // 512)
    assert small.size == (-(-width // factor), -(-height // factor))
    assert np.array_equal(small, Image.fromarray(pixels).reduce(factor))


def test_a_large_heic_comes_reduced() -> None:
    """A phone's 12 megapixels are more than is sent between processes, or looked at."""
    photo = decode_photo(encoded(halves((1030, 1027)), "HEIC"), name="phone.heic")
    assert photo.size == (515, 514)
    assert is_upright(photo)


def test_what_crashes_a_decoder_ends_one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged HEICs have crashed libheif's binding: that must not be the end of an index."""
    monkeypatch.setattr(image_decoding, "_decoded_pixels", _crash)
    with pytest.raises(InputError, match=r"phone\.heic: ended the process .*signal 11"):
        decode_photo(GOOD["phone.heic"], name="phone.heic")
    monkeypatch.undo()
    assert is_upright(decode_photo(GOOD["phone.heic"], name="phone.heic"))


def _crash(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_files(tmp_path: Path) -> None:
    """A missing file, a directory, names of any bytes, and a good one."""
    with pytest.raises(InputError, match="is a directory"):
        read_photo(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_photo(tmp_path / "none.jpg")
    (tmp_path / "dish.jpg").write_bytes(JPEG)
    assert read_photo(tmp_path / "dish.jpg").size == (64, 48)
    for name in (b"a\nb\x1b[2J.jpg", b"\xff\xfe.jpg"):
        path = Path(str(tmp_path)) / name.decode("utf-8", "surrogateescape")
        for content in (None, b"no image"):
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(InputError) as caught:
                read_photo(path)
            assert str(caught.value).isprintable()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe waits for ever, /dev/zero gives memory's worth of nothing."""
    for name, said in special_files(tmp_path).items():
        with pytest.raises(InputError, match=said):
            read_photo(tmp_path / name)


FUZZED = (
    "progressive.jpg", "ink.jpg", "web.webp", "moving.gif", "scan.tif", "paint.bmp", "web.avif",
    "phone.heic", "film.jp2", "palette.png", "exif as text.jpg",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([JPEG, PNG, *(GOOD[name] for name in FUZZED)]),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=6)), max_size=5),
)
def test_fuzzed_photos(content: bytes, edits: list[tuple[int, bytes]]) -> None:
    """A damaged photo is decoded or refused by the project's own error."""
    damaged = bytearray(content)
    for place, new in edits:
        at = place % len(damaged)
        damaged[at : at + len(new)] = new
    with contextlib.suppress(InputError):
        assert decode_photo(bytes(damaged), name="fuzzed").mode == "RGB"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700))
def test_preprocessed_size(width: int, height: int) -> None:
    """The network takes 224 x 224, whatever the photo's shape."""
    photo = Image.new("RGB", (width, height), (10, 200, 30))
    pixels = preprocess(photo, INPUT)
    assert pixels.shape == (INPUT.size, INPUT.size, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 200, 30)).all()
    assert min(resize_short_side(photo, 256).size) == 256


SHAPES = st.sampled_from([
    (1, 100_000), (100_000, 1), (1, 1), (3, 50_000), (2, 2), (257, 70_000), (65_000, 300),
]) | st.tuples(st.integers(1, 3000), st.integers(1, 3000))  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 100))
def test_any_shape_takes_bounded_memory(size: tuple[int, int], seed: int) -> None:
    """Scaled first and cropped then, 1 x 100,000 pixels were 26 GB."""
    pytest.importorskip("torch", reason="training's views are compared too")
    from hficma.training.data.photo_views import random_view, square

    photo = Image.new("RGB", size, (10, 200, 30))
    before = _peak()
    for pixels in (
        preprocess(photo, INPUT),
        square(photo, INPUT)[: INPUT.size, : INPUT.size],
        random_view(upright(photo), INPUT, 0.3, np.random.default_rng(seed)),
    ):
        assert pixels.shape == (INPUT.size, INPUT.size, 3)
        assert (pixels == (10, 200, 30)).all()
    assert _peak() - before < 150 * 2**20


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if MACOS else 1024)


MACOS = sys.platform == "darwin"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_ordinary_shapes_are_scaled_whole(width: int, height: int, seed: int) -> None:
    """Training, indexes and searches must see bit for bit the same pixels: those of scaling the
    whole photo and cropping then, for every photo up to 16 times as long as wide."""
    pytest.importorskip("torch", reason="training's views are compared too")
    from hficma.training.data.photo_views import square, square_of_pixels

    generator = np.random.default_rng(seed)
    photo = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    short_side, size = INPUT.short_side, INPUT.size
    scale = short_side / min(photo.size)
    to = tuple(max(short_side, round(side * scale)) for side in photo.size)
    scaled = photo.resize(to, Image.Resampling.BILINEAR)
    left, top = ((side - size) // 2 for side in to)
    expected = np.asarray(scaled.crop((left, top, left + size, top + size))).astype(int)
    margin = (short_side - size) // 2
    seen = preprocess(photo, INPUT)
    whole = square(photo, INPUT)
    assert np.array_equal(whole[margin:-margin, margin:-margin], seen)
    assert np.array_equal(square_of_pixels(np.array(photo), INPUT), whole)
    stored = np.array(scaled)  # nothing is left to be scaled
    assert np.array_equal(square_of_pixels(stored, INPUT), square(scaled, INPUT))
    if max(photo.size) <= 16 * min(photo.size):
        assert np.array_equal(seen, expected)
    else:  # cut about the same centre: its length is rounded elsewhere, by half a pixel at most
        assert np.abs(seen - expected).mean() <= 4


def test_conversion_in_parts_changes_nothing() -> None:
    """Large photos are converted a band at a time; a seam, or another brightness, would show."""
    generator = np.random.default_rng(0)
    deep = Image.fromarray(generator.integers(0, 65536, (2500, 1700)).astype(np.uint16))
    expected = (np.asarray(deep, dtype=np.float64) * (255 / 65535)).astype(np.uint8)
    assert np.array_equal(np.asarray(upright(deep))[..., 1], expected)
    glass = Image.fromarray(generator.integers(0, 256, (2500, 1700, 4), dtype=np.uint8))
    white = Image.new("RGBA", glass.size, "white")
    assert upright(glass) == Image.alpha_composite(white, glass).convert("RGB")


def _lying() -> Image.Image:
    return Image.open(io.BytesIO(on_its_side(6, "PNG")))


SOURCES: dict[str, Callable[[Path], object]] = {
    "text path": str,
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "file": lambda path: path.open("rb"),
    "read file": lambda path: _read_to_its_end(path.open("rb")),
    "PIL": Image.open,
}


def _read_to_its_end(file: io.BufferedReader) -> io.BufferedReader:
    file.read()
    return file


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photo_is_the_same_however_it_is_given(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    """A PIL image of a phone's photo was searched lying on its side, its file was not."""
    path = tmp_path / "phone.png"
    path.write_bytes(on_its_side(orientation, "PNG"))
    photo = load_photo(SOURCES[kind](path))  # type: ignore[arg-type]
    assert is_upright(photo)
    assert np.array_equal(preprocess(photo, INPUT), preprocess(read_photo(path), INPUT))


def test_exif_of_a_pil_image_is_followed_wherever_photos_are_taken() -> None:
    """`preprocess` is what a model's `encode_images` and a page of explanations call."""
    assert np.array_equal(preprocess(_lying(), INPUT), preprocess(upright(_lying()), INPUT))
    set_by_hand = _lying().copy()
    assert is_upright(upright(set_by_hand))
    assert is_upright(upright(upright(_lying()))), "turned twice"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_pil_images_of_every_mode(mode: str) -> None:
    """A program hands over what its own library gave it."""
    image = halves().convert("L").convert(mode) if mode in "IF" else halves().convert(mode)
    photo = upright(image)
    assert photo.mode == "RGB"
    assert photo.size == (64, 48)


def test_arrays() -> None:
    """Grey, colour, opacity; bytes and shares of one mean the same."""
    array = np.asarray(halves())
    assert is_upright(load_photo(array))
    assert np.array_equal(load_photo(array.astype(np.float32) / 255), load_photo(array))
    assert load_photo(array[..., 0]) == load_photo(array[..., :1])
    clear = np.dstack([array, np.zeros(array.shape[:2], dtype=np.uint8)])
    assert (np.asarray(load_photo(clear)) == 255).all()
    assert is_upright(load_photo(np.asfortranarray(array)))
    mine = array.copy()
    photo = load_photo(mine)
    mine[:] = 0
    assert is_upright(photo), "a later change of the array reached the photo"


WRONG: dict[str, tuple[object, str]] = {
    "nothing": (None, "is a NoneType; give a path"),
    "number": (5, "is an int; give a path"),
    "list": ([[0, 0], [0, 0]], "is a list"),
    "no pixels": (np.zeros((0, 5, 3), np.uint8), "no pixels"),
    "a batch": (np.zeros((2, 9, 9, 3), np.uint8), "2 x 9 x 9 x 3; give"),
    "channels first": (np.zeros((3, 9, 9), np.uint8), "channels first"),
    "five channels": (np.zeros((9, 9, 5), np.uint8), "9 x 9 x 5; give"),
    "16 bit": (np.zeros((9, 9, 3), np.uint16), "uint16; give uint8"),
    "objects": (np.zeros((9, 9, 3), object), "object; give uint8"),
    "floats of 255": (np.full((9, 9, 3), 200.0), "from 200 to 200"),
    "NaN": (np.full((9, 9, 3), np.nan), "nan"),
    "empty bytes": (b"", "empty"),
    "text file": (io.StringIO("x"), "open it in binary mode"),
    "zero byte": ("a\0b", "cannot be read"),
    "empty path": ("", "cannot be read"),
    "no image": (Image.new("RGB", (0, 5)), "no pixels"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_photo(kind: str) -> None:
    """A program's mistake is told in one line too: what it is, what to give."""
    source, said = WRONG[kind]
    with pytest.raises(InputError, match=re.escape(said)):
        preprocess(load_photo(source), INPUT)  # type: ignore[arg-type]


def test_closed_files_are_no_photos(tmp_path: Path) -> None:
    """What was closed before it was read raises one of many errors in a decoder."""
    path = tmp_path / "dish.png"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        opened = Image.open(path)
    opened.close()
    for source in (file, opened):
        with pytest.raises(InputError):
            load_photo(source)


def test_one_pil_image_in_many_threads(tmp_path: Path) -> None:
    """Loading moves in the image's file; two threads at once read each other's place."""
    path = tmp_path / "dish.png"
    noise((900, 700)).save(path)
    expected = preprocess(read_photo(path), INPUT)
    for _ in range(5):
        image = Image.open(path)
        start = threading.Barrier(4)

        def seen(shared: Image.Image = image, start: threading.Barrier = start) -> bool:
            start.wait()
            return np.array_equal(preprocess(shared, INPUT), expected)

        with ThreadPoolExecutor(4) as pool:
            assert all(done.result() for done in [pool.submit(seen) for _ in range(4)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_decodes_by_a_child_of_its_own() -> None:
    """Two processes on one pipe would read each other's photos."""
    expected = read_of(GOOD["scan.tif"])
    process = multiprocessing.get_context("fork").Process(target=read_of, args=(GOOD["scan.tif"],))
    process.start()
    assert all(read_of(GOOD["scan.tif"]) == expected for _ in range(20))
    process.join()
    assert process.exitcode == 0
    assert read_of(GOOD["scan.tif"]) == expected


def read_of(content: bytes) -> bytes:
    """A photo's pixels."""
    return decode_photo(content, name="scan").tobytes()


def test_nothing_of_the_process_is_changed(tmp_path: Path) -> None:
    """A program that imports this keeps its own limits, formats and warnings."""
    code = """
import sys, warnings, numpy  # which has filters of its own
from PIL import Image
before = (Image.MAX_IMAGE_PIXELS, warnings.filters[:])
from hficma.images import read_photo
for name in sys.argv[1:]:
    read_photo(name)
assert (Image.MAX_IMAGE_PIXELS, warnings.filters) == before
assert "HEIF" not in Image.OPEN
"""
    names = [tmp_path / "phone.heic", tmp_path / "large.png"]
    names[0].write_bytes(GOOD["phone.heic"])
    # Between the two limits of Pillow's, where it warns.
    names[1].write_bytes(encoded(Image.new("1", (9_500, 9_500)), "PNG"))
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, names)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
