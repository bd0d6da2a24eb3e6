"""Photos as people and attackers have them, made anew: those that are read, and those that are not.

Every good one shows red above blue once it is upright.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

SIZE = (64, 48)
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""What lays an upright photo on the side that an orientation then undoes."""


def halves(size: tuple[int, int] = SIZE) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", size, (220, 20, 20))
    image.paste((20, 20, 220), (0, size[1] // 2, *size))
    return image


def is_upright(photo: Image.Image) -> bool:
    """Whether red is above blue."""
    top = photo.getpixel((photo.width // 2, photo.height // 8))
    bottom = photo.getpixel((photo.width // 2, photo.height * 7 // 8))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    return top[0] > 150 > top[2] and bottom[2] > 150 > bottom[0]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image's file."""
    buffer = io.BytesIO()
    if kind == "HEIC":
        exif = options.get("exif")
        data = exif.tobytes() if isinstance(exif, Image.Exif) else None
        pillow_heif.encode(image.mode, image.size, image.tobytes(), buffer, quality=90, exif=data)
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def on_its_side(orientation: int, kind: str) -> bytes:
    """A photo as a phone stores it: lying, with a tag that says so."""
    stored = halves()
    if orientation in UNDO:
        stored = stored.transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, kind, exif=exif)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG's segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG's chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes = b"\0" * 100, extra: bytes = b"") -> bytes:
    """A PNG that claims a size, with chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + body


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its start."""
    return jpeg[:2] + segment(marker, body) + jpeg[2:]


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def of_many_scans(size: tuple[int, int], scans: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    jpeg = encoded(Image.new("L", size, 128), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * (scans - 1) + b"\xff\xd9"


def text_orientation() -> bytes:
    """EXIF whose orientation is the text "6", as some programs have written it."""
    tags = struct.pack("<HHHI", 1, 0x0112, 2, 2) + b"6\0\0\0" + b"\0\0\0\0"
    return b"Exif\0\0II*\0\x08\0\0\0" + tags


JPEG = encoded(halves(), "JPEG", quality=95)
PNG = encoded(halves(), "PNG")
_apple_movie = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "

GOOD: dict[str, bytes] = {
    "plain.jpg": JPEG,
    "browser.jfif": JPEG,
    "CAMERA.JPG": JPEG,
    "no suffix": JPEG,
    "png named.jpg": PNG,
    "progressive.jpg": encoded(halves(), "JPEG", progressive=True),
    "ink.jpg": encoded(halves().convert("CMYK"), "JPEG"),
    "exif as text.jpg": with_segment(JPEG, 0xE1, text_orientation()),
    "exif of nothing.jpg": with_segment(JPEG, 0xE1, b"Exif\0\0" + b"\xff" * 40),
    "stray bytes.jpg": JPEG[:20] + b"\0\1\2" + JPEG[20:],
    "broken profile.jpg": with_segment(JPEG, 0xE2, b"ICC_PROFILE\0\1\1" + b"\xaa" * 99),
    "two of three profiles.jpg": with_segment(JPEG, 0xE2, b"ICC_PROFILE\0\2\3" + b"\xaa" * 99),
    "short adobe.jpg": with_segment(JPEG, 0xEE, b"Adobe"),
    "motion.jpg": JPEG + _apple_movie + b"\xff\xda" * 5000,
    "lying.jpg": on_its_side(6, "JPEG"),
    "stereo.mpo": encoded(halves(), "MPO", save_all=True, append_images=[halves((16, 12))]),
    "plain.png": PNG,
    "palette.png": encoded(halves().convert("P"), "PNG"),
    "glass.png": encoded(halves().convert("RGBA"), "PNG"),
    "moving.png": encoded(halves(), "PNG", save_all=True, append_images=[Image.new("RGB", SIZE)]),
    "long texts.png": PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9**7))) + PNG[33:],
    "broken profile.png": PNG[:33] + chunk(b"iCCP", b"a\0\x09" + b"\xaa" * 20) + PNG[33:],
    "no end.png": PNG[:-8],
    "no end.jpg": JPEG[:-2],
    "no end, many scans.jpg": encoded(halves(), "JPEG", progressive=True)[:-2],
    "web.webp": encoded(halves(), "WEBP"),
    "moving.gif": encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", SIZE)]),
    "paint.bmp": encoded(halves(), "BMP"),
    "scan.tif": encoded(halves(), "TIFF", compression="tiff_lzw"),
    "web.avif": encoded(halves(), "AVIF"),
    "phone.heic": encoded(halves(), "HEIC"),
    "LYING.HEIC": on_its_side(6, "HEIC"),
    "cut out.heic": encoded(halves().convert("RGBA"), "HEIC"),
    "film.jp2": encoded(halves(), "JPEG2000"),
    "old.ppm": encoded(halves(), "PPM"),
    "a line.png": encoded(halves((1, 100_000)), "PNG"),
}  # fmt: skip
"""Name and content of files that are read."""

_AVIF = GOOD["web.avif"]
_HEIC = GOOD["phone.heic"]
BAD: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"this is no image", "no image"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "damaged or truncated"),
    "half.png": (PNG[: len(PNG) // 2], "damaged or truncated"),
    "half.avif": (_AVIF[: len(_AVIF) - 40], "damaged or truncated"),
    "half.heic": (_HEIC[: len(_HEIC) // 2], "HEIC photo is damaged or truncated"),
    "header.jpg": (JPEG[:20], "damaged or truncated"),
    "header.heic": (_HEIC[:24], "HEIC"),
    "other pixels.avif": (_AVIF[:-60] + bytes(60), "damaged or truncated"),
    "many scans.jpg": (of_many_scans((4000, 4000), 1000), "in 10.. scans"),
    "no pixels behind it.jpg": (claiming(JPEG, 48_000, 48_000), "damaged or truncated"),
    "too large.jpg": (claiming(JPEG, 65_500, 65_500), "scale it down"),
    "huge.png": (png(100_000, 100_000), "pixels are more than"),
    "large.png": (png(15_000, 10_000), "pixels are more than"),
    "runs.bmp": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 9000, 9000, 1, 8, 1, *[0] * 5),
        "run lengths",
    ),
    "texture.dds": (b"DDS " + struct.pack("<I", 124) + bytes(120), "DDS texture"),
    "paper.pdf": (b"%PDF-1.7\n", "is a PDF; save it as JPEG"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "saved page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "layers.psd": (b"8BPS\0\1" + bytes(20), "Photoshop"),
    "camera.CR2": (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
    "camera.CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "RAW"),
    "new.jxl": (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    "clip.mov": (_apple_movie, "movie"),
    "album.zip": (b"PK\3\4" + bytes(30), "ZIP"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "tiny strips.tif": (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 273, 4, 1 << 30, 8),
        "damaged or truncated",
    ),
}
"""Name, content and what the one line says of files that are not read."""


def write_zoo(folder: Path) -> None:
    """All of them as files, and beside them what is no regular file at all."""
    for name, content in GOOD.items():
        (folder / name).write_bytes(content)
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    for name in special_files(folder):
        assert os.path.lexists(folder / name)


def special_files(folder: Path) -> dict[str, str]:
    """Make pipes, devices and links in a folder; returns each name and what is said of it."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "folder.jpg").symlink_to(folder, target_is_directory=True)
    return {
        "pipe.jpg": "is a pipe",
        "endless.jpg": "is a device",
        "gone.jpg": "cannot be read",
        "folder.jpg": "is a directory",
    }


def noise(size: tuple[int, int] = (300, 280)) -> Image.Image:
    """A photo in which every pixel tells."""
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
