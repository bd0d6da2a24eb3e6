"""Photos as people have them: odd ones work, bad ones are named in one line."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hficma.errors import InputError
from hficma.images import CROP, decode_photo, preprocess, read_photo, resize_short_side


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", size, (220, 20, 20))
    image.paste((20, 20, 220), (0, size[1] // 2, *size))
    return image


def is_upright(photo: Image.Image) -> bool:
    top = photo.getpixel((photo.width // 2, photo.height // 8))
    bottom = photo.getpixel((photo.width // 2, photo.height * 7 // 8))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    return top[0] > 150 > top[2] and bottom[2] > 150 > bottom[0]


PNG = encoded(halves(), "PNG")
JPEG = encoded(halves(), "JPEG")

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


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_is_decoded(sort: str) -> None:
    """A photo's format must not change what is seen."""
    photo = decode_photo(SORTS[sort], name=sort)
    assert photo.mode == "RGB"
    assert photo.size == (64, 48)
    assert is_upright(photo)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation(orientation: int, kind: str) -> None:
    """Phones store photos lying on their side and say so: a dish must not be searched rotated."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = halves()
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encoded(stored, kind, exif=exif), name="phone")
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


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is no image", "no image"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "damaged or truncated"),
    "truncated png": (PNG[: len(PNG) // 2], "damaged or truncated"),
    "jpeg header only": (JPEG[:20], "image"),
    "huge header": (png_header(100_000, 100_000), "image|pixels"),
    "large header": (png_header(15_000, 10_000), "pixels are more than"),
}


@pytest.mark.parametrize("sort", BAD)
def test_bad_photos(sort: str) -> None:
    """One line that names the photo and what is wrong; nothing is allocated for a mere header."""
    content, said = BAD[sort]
    with pytest.raises(InputError, match=said) as caught:
        decode_photo(content, name="dish.jpg")
    assert str(caught.value).startswith("dish.jpg: ")
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    """A missing file, a directory, and a good one."""
    with pytest.raises(InputError, match="is a directory"):
        read_photo(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_photo(tmp_path / "none.jpg")
    (tmp_path / "dish.jpg").write_bytes(JPEG)
    assert read_photo(tmp_path / "dish.jpg").size == (64, 48)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([JPEG, PNG, SORTS["webp"], SORTS["gif"], SORTS["tiff"]]),
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
    pixels = preprocess(photo)
    assert pixels.shape == (CROP, CROP, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 200, 30)).all()
    assert min(resize_short_side(photo, 256).size) == 256
