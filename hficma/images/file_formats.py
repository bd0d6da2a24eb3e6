"""Tells an image file's format from its bytes, or says in words why it is not read.

Nothing is decoded here. Names are not looked at: cameras write `.JPG`, browsers save WebP as
`.jpg`, and a mail program names a HEIC as it likes.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from PIL import Image

from ..errors import InputError

log = logging.getLogger("hficma")

ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""

SEGMENTS = 100_000
"""Segments of a JPEG or chunks of a PNG, at most; a photo has about 20, a large one in small pieces
some thousand."""

# ISO media files, which HEIC, AVIF and movies are alike, tell their kind by four-letter brands.
_HEIC_BRANDS = {
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
}  # fmt: skip
_AVIF_BRANDS = {b"avif", b"avis"}
_MOVIE_BRANDS = {
    b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"dash", b"M4V ",
    b"M4A ", b"MSNV", b"f4v ", b"qt  ", b"3gp4", b"3gp5", b"3gp6", b"3g2a",
}  # fmt: skip
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
"""Bytes of the versions of a bitmap's header: "BM" alone also begins texts."""

_SAVE = "save it as JPEG or PNG"
_PHOTO = "give the photo itself"
_RAW = "is a camera's RAW file; export it as JPEG"
# How other files begin that people take for photos, and what to do with them.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", f"is a PDF; {_SAVE}"),
    (b"%!PS", f"is PostScript; {_SAVE}"),
    (b"\xc5\xd0\xd3\xc6", f"is PostScript; {_SAVE}"),
    (b"8BPS", f"is a Photoshop document; {_SAVE}"),
    (b"DDS ", f"is a DDS texture; {_SAVE}"),
    (b"\xff\x0a", f"is JPEG XL; {_SAVE}"),
    (b"\0\0\0\x0cJXL ", f"is JPEG XL; {_SAVE}"),
    (b"\0\0\x01\0", f"is an icon; {_SAVE}"),
    (b"\0\0\x02\0", f"is a cursor; {_SAVE}"),
    (b"icns", f"is an icon; {_SAVE}"),
    (b"qoif", f"is a QOI image; {_SAVE}"),
    (b"SIMPLE  =", f"is a FITS image; {_SAVE}"),
    (b"\x76\x2f\x31\x01", f"is an OpenEXR image; {_SAVE}"),
    (b"#?RADIANCE", f"is a Radiance HDR image; {_SAVE}"),
    (b"\x59\xa6\x6a\x95", f"is a Sun raster image; {_SAVE}"),
    (b"gimp xcf", f"is a GIMP document; {_SAVE}"),
    (b"\x0a\x05\x01", f"is a PCX image; {_SAVE}"),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIU\0", _RAW),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"MMOR", _RAW),
    (b"FOVb", _RAW),
    (b"\x1a\x45\xdf\xa3", f"is a movie; {_PHOTO}"),
    (b"\0\0\x01\xba", f"is a movie; {_PHOTO}"),
    (b"PK\x03\x04", "is a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "is a gzip archive; unpack it first"),
    (b"Rar!", "is a RAR archive; unpack it first"),
    (b"7z\xbc\xaf", "is a 7-Zip archive; unpack it first"),
    (b"\0\x05\x16\x07", f"is macOS's note beside a file; {_PHOTO}"),
    (b"\0\x05\x16\0", f"is macOS's note beside a file; {_PHOTO}"),
    (b"Bud1", f"is macOS's note on a folder; {_PHOTO}"),
    (b"\0\0\0\x01Bud1", f"is macOS's note on a folder; {_PHOTO}"),
    (b"version https://git-lfs", "stands for a file that Git LFS keeps; fetch it: git lfs pull"),
)
_MARKUP = (
    (b"<svg", f"is an SVG drawing; {_SAVE}"),
    (b"<html", f"is a web page, not the image; {_PHOTO}"),
    (b"<!doctype html", f"is a web page, not the image; {_PHOTO}"),
)

_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")
"""A JPEG marker with something behind it; 0xFF 0x00 and the restarts 0xD0 to 0xD7 are data.

Of a run of fill bytes 0xFF it matches the last, so that a long run costs one pass.
"""
# Chunks of a PNG that its pixels need: size, palette, transparency, pixels, orientation.
_PNG_ESSENTIAL = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def image_format(content: bytes) -> str | None:
    """Return the format of a file's bytes, or None where it is not decoded.

    Args:
        content: the file's bytes, or its first kilobytes.

    Returns:
        JPEG, PNG, WEBP, HEIC, AVIF, GIF, BMP, TIFF, JPEG2000 or PNM: pixels only, no drawings, and
        nothing that a program of its own would have to run.
    """
    head = content[:32]
    if head.startswith(b"\xff\xd8"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return None if head[8:10] == b"CR" else "TIFF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head.startswith((b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if re.match(rb"P[1-6][\s#]", head):
        return "PNM"
    brands = _brands(content)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def describe(content: bytes) -> str:
    """Return in words what a file is that `image_format` does not know, and what to do.

    Args:
        content: the file's bytes.
    """
    head = content[:512]
    for start, text in _OTHERS:
        if head.startswith(start):
            return text
    if head[4:8] == b"ftyp":
        if head[8:11] == b"crx":
            return _RAW
        if _brands(content) & _MOVIE_BRANDS:
            return f"is a movie; {_PHOTO}"
    if head.startswith(b"RIFF"):
        return f"is a movie or a sound; {_PHOTO}"
    if head[8:10] == b"CR":
        return _RAW
    markup = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if markup.startswith(b"<"):
        for tag, text in _MARKUP:
            if tag in markup:
                return text
    return "is no image that can be read (JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP, TIFF)"


@dataclass(frozen=True, kw_only=True)
class JpegHeader:
    """The header of a JPEG, and the number of its scans."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    components: int
    """1 grey, 3 colour, 4 CMYK."""
    scans: int
    """Times that a decoder passes over all pixels: a progressive file has about ten."""
    orientation: int
    """How it must be turned, as EXIF numbers it, or XMP where EXIF says nothing: 1 (not at all)
    to 8."""


def read_jpeg_header(content: bytes, *, name: str) -> JpegHeader:
    """Return a JPEG's header, walking its segments as libjpeg does, past stray bytes between them.

    A segment is 0xFF, its kind, its length in two bytes (big-endian, these two included) and its
    body:

        FF D8 | FF E1 length "Exif" ... | FF C2 length precision height width components ... |
        FF DA length ... pixels of a scan ... | FF DA ... | FF D9

    A file of one scan is not walked past that scan's start. Where there are more, they are counted
    to the end of the image: each costs its decoder a pass over all pixels, however few bytes it
    has.

    Args:
        content: the file's bytes.
        name: how to name it in an error.

    Raises:
        InputError: no frame header, or more segments than any photo has.
    """
    frame: tuple[int, int, int, bool] | None = None
    exif = xmp = b""
    scans, position = 0, 2
    for _ in range(SEGMENTS):
        marker = _MARKER.search(content, position)
        if marker is None:
            break
        kind, position = content[marker.end() - 1], marker.end()
        if kind == 0xD9:  # the end; what follows is a second image or a phone's short movie
            break
        length = int.from_bytes(content[position : position + 2], "big")
        body = position + 2
        if kind == 0xE1 and not exif and content[body : body + 6] == b"Exif\0\0":
            exif = content[body : position + length]
        elif kind == 0xE1 and not xmp and content.startswith(_XMP, body):
            xmp = content[body + len(_XMP) : position + length]
        # A frame header is one of 0xC0 to 0xCF, except for Huffman tables, a reserved one and
        # arithmetic coding's conditions.
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and frame is None:
            height = int.from_bytes(content[body + 1 : body + 3], "big")
            width = int.from_bytes(content[body + 3 : body + 5], "big")
            # 0xC2, 0xC6, 0xCA and 0xCE are progressive: their scans refine each other.
            frame = (
                width,
                height,
                int.from_bytes(content[body + 5 : body + 6], "big"),
                kind & 3 == 2,
            )
        elif kind == 0xDA and frame is not None:
            scans += 1
            # A sequential file whose scan has all components has no other.
            if not frame[3] and content[body : body + 1] == bytes([frame[2]]):
                break
        position += max(2, length)
    else:
        raise InputError(f"{name}: the JPEG has more than {SEGMENTS:,} segments; {_SAVE}")
    if frame is None or not all(frame[:3]):
        raise InputError(f"{name}: the image is damaged or truncated (a JPEG without a size)")
    width, height, components, _ = frame
    return JpegHeader(
        width=width,
        height=height,
        components=components,
        scans=scans,
        orientation=_orientation(exif, xmp),
    )


def _orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation of EXIF, else of XMP, else 1."""
    value: object = None
    if exif:
        tags = Image.Exif()
        try:
            tags.load(exif)
            value = tags.get(ORIENTATION)
        except Exception as error:  # Pillow's reader of a damaged EXIF; the pixels are still good
            log.debug("EXIF cannot be read: %s", error)
    if value is None and (match := _XMP_ORIENTATION.search(xmp)):
        value = int(match[1])
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def essential_png(content: bytes) -> bytes:
    """Return a PNG without the chunks that its pixels and orientation do not need.

    Texts, profiles and frames are left out, and what comes after the last whole chunk; the end mark
    is added. A chunk is its length in four bytes, its kind in four, its body, and a checksum of
    four.

    Args:
        content: the file's bytes.
    """
    parts, position = [content[:8]], 8
    for _ in range(SEGMENTS):
        kind = content[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        if kind == b"IEND" or end > len(content):
            return b"".join((*parts, _PNG_END))
        if kind in _PNG_ESSENTIAL:
            parts.append(content[position:end])
        position = end
    return content


def _brands(content: bytes) -> set[bytes]:
    """Return the brands of an ISO media file: its own, and those that it says it can be read as."""
    if content[4:8] != b"ftyp":
        return set()
    length = min(int.from_bytes(content[:4], "big"), 256, len(content))
    return {content[8:12], *(content[at : at + 4] for at in range(16, length - 3, 4))}
