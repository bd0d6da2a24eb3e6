"""Decodes an image file's bytes, whatever the file holds, within bounds of memory and time.

Decoders are others' code, whose documentation does not say what they raise on a damaged file. So
here, and only here, any exception of theirs is taken as "damaged". What they may
spend is bounded by the header, before a pixel is decoded: pixels, a JPEG's scans, the calls that a
parser written in Python makes. Formats whose headers do not bound it are decoded by a child process
with limits of memory and seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import InputError
from ..limits import (
    ENOUGH_PIXELS,
    HEIC_PIXELS,
    JPEG_KEPT_PIXELS,
    JPEG_SCANNED_PIXELS,
    MEGABYTE,
    PHOTO_ASPECT,
    PHOTO_PIXELS,
    PHOTO_READS,
    RUN_LENGTH_PIXELS,
)
from ..types import Pixels
from .file_formats import (
    JpegHeader,
    describe,
    essential_png,
    image_format,
    read_jpeg_header,
)
from .upright import check_size, decoder_errors, orientation_of, upright

if TYPE_CHECKING:
    from ..untrusted.worker import Worker

log = logging.getLogger("hficma")

LARGE_PIXELS = 24_000_000
"""Pixels from which on one photo is decoded at a time: threads would add up their memory."""
APART = ("HEIC", "TIFF", "JPEG2000", "PNM")
"""Formats that a child process decodes. A damaged HEIC can crash its decoder, a TIFF's tags may
ask for strips and tables of any size, a JPEG 2000's for any number of passes, and numbers written
as text are read in Python."""
APART_SECONDS = 30.0
"""Seconds for one photo; a TIFF of the most pixels takes two, a HEIC of the most about ten."""
APART_MEMORY = 3_000 * MEGABYTE
"""Bytes of memory of a child; the largest photo takes about 1.5 GB, since Pillow stores a pixel in
four bytes, before and after its conversion."""
CHILDREN = 2
"""Child processes, at most; a HEIC's decoder has threads of its own."""

# TIFF tags of a camera's RAW file: that of Adobe's format, and that of a reduced image (a preview).
_DNG_VERSION = 0xC612
_SUBFILE = 0x00FE

_JPEG_END = b"\xff\xd9"
"""The mark that ends a JPEG; some programs stop writing after the last pixel."""
_PLUGINS = {
    # Called directly: `Image.open` tries every format that any package has registered, and
    # reports large ones by a warning of the whole process.
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "PNM": ("PIL.PpmImagePlugin", "PpmImageFile"),
}

_large = threading.Lock()


class _Children:
    """The child processes that decode for this one, each started when it is first needed."""

    def __init__(self) -> None:
        self._turns = threading.BoundedSemaphore(CHILDREN)
        self._idle: list[Worker] = []

    def decode(self, kind: str, content: bytes, name: str, enough: int) -> Image.Image:
        """Decode a photo of one of the formats in `APART`.

        Args:
            kind: the format.
            content: the file's bytes.
            name: how to name it in an error.
            enough: see `decode_image`.

        Returns:
            the photo as upright RGB.

        Raises:
            InputError: damaged, past the limits, or too slow.
        """
        from ..untrusted.worker import Worker

        with self._turns:
            worker = (
                self._idle.pop()
                if self._idle
                else Worker(memory=APART_MEMORY, modules=(__name__, "hficma.images.preprocessing"))
            )
            try:
                width, height, pixels = worker.call(
                    _decoded_pixels, kind, content, name, enough,
                    name=name, seconds=APART_SECONDS,
                )  # fmt: skip
            finally:
                self._idle.append(worker)
        return Image.frombytes("RGB", (width, height), pixels)

    def close(self) -> None:
        """End the children."""
        while self._idle:
            self._idle.pop().close()


_children = _Children()
_parents: _Children | None = None


def _after_fork() -> None:
    """Leave the parent its children and its lock, which another thread may hold."""
    global _large, _children, _parents
    _parents = _children  # held, since what collects it would close them
    _large, _children = threading.Lock(), _Children()


@atexit.register
def _at_exit() -> None:
    _children.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def decode_image(
    content: bytes, *, name: str, enough: int = ENOUGH_PIXELS
) -> tuple[Image.Image, int]:
    """Decode an image file.

    Of several frames the first is decoded, of a HEIC the primary image.

    Args:
        content: the file's bytes.
        name: how to name it in an error.
        enough: pixels of the shorter side that are enough: a JPEG is decoded at a reduced size
            where that leaves as many, and a HEIC reduced where it leaves 512 too.

    Returns:
        the image, in any of Pillow's modes, and the EXIF orientation by which it must be turned.

    Raises:
        InputError: no image, damaged, or past the limits.
    """
    kind = image_format(content)
    if kind is None:
        raise InputError(f"{name}: {describe(content)}")
    if kind == "JPEG":
        return _decode_jpeg(content, read_jpeg_header(content, name=name), name, enough)
    if kind in APART:
        return _children.decode(kind, content, name, max(enough, ENOUGH_PIXELS)), 1
    try:
        return _decode_by_pillow(kind, content, name)
    except InputError:
        # Browsers show a PNG whose texts or profile are damaged, or too long for Pillow.
        essential = essential_png(content) if kind == "PNG" else content
        if essential == content:
            raise
        return _decode_by_pillow(kind, essential, name)


def _decode_by_pillow(kind: str, content: bytes, name: str) -> tuple[Image.Image, int]:
    """Decode any format but JPEG and HEIC."""
    image = _read_header(kind, content, name)
    with _one_large_at_a_time(image.width * image.height), decoder_errors(name):
        image.load()
    return image, orientation_of(image)


def _decode_jpeg(
    content: bytes, header: JpegHeader, name: str, enough: int
) -> tuple[Image.Image, int]:
    """Decode a JPEG, at a reduced size where that is enough.

    libjpeg computes 1/2, 1/4 or 1/8 of the size from the low frequencies of each block of 8 x 8
    alone, which is at least twice as fast. The limits are of what a decoder must do whatever the
    size of its result: pass over all pixels once a scan, and hold all coefficients where there are
    several scans.
    """
    memory_pixels = _checked_memory(header, content, name)
    with _one_large_at_a_time(memory_pixels):
        if header.components != 4:
            decoded = _decode_by_libjpeg(content, enough)
            if decoded is None:
                decoded = _decode_by_libjpeg(content + _JPEG_END, enough)
            if decoded is not None:
                return Image.fromarray(decoded), header.orientation
        # Pillow shows, as browsers do, what libjpeg only warns of, and knows CMYK from its inverse.
        image = _read_header("JPEG", content, name, any_size=True)
        with decoder_errors(name):
            image.draft(None, (enough, enough))
            check_size(image.width, image.height, name=name)
            image.load()
    return image, header.orientation


def decode_plain_jpeg(content: bytes, *, name: str, enough: int) -> Pixels | None:
    """Decode a whole, upright JPEG that `decode_image` gives as it is; return None of any other.

    Returns:
        uint8 (H, W, 3), without the time of an image of Pillow's, which holds a pixel in 4 bytes.
    """
    if image_format(content) != "JPEG":
        return None
    header = read_jpeg_header(content, name=name)
    sides = header.width, header.height
    if header.components == 4 or header.orientation != 1 or max(sides) > PHOTO_ASPECT * min(sides):
        return None
    with _one_large_at_a_time(_checked_memory(header, content, name)):
        return _decode_by_libjpeg(content, enough)


def _checked_memory(header: JpegHeader, content: bytes, name: str) -> int:
    """Return the pixels that decoding a JPEG holds in memory, if it is within the limits."""
    pixels = header.width * header.height
    memory_pixels = pixels if header.scans > 1 else 0  # one scan is decoded row by row
    if pixels * header.scans > JPEG_SCANNED_PIXELS or memory_pixels > JPEG_KEPT_PIXELS:
        scans = f" in {header.scans} scans" if header.scans > 1 else ""
        raise InputError(
            f"{name}: {header.width} x {header.height} pixels{scans} take too long to decode; "
            "scale it down, or save it as a baseline JPEG"
        )
    # A block of 64 pixels takes a bit at least, so a large size with little behind it is a lie.
    if pixels > PHOTO_PIXELS and pixels > 1024 * len(content):
        raise InputError(f"{name}: the image is damaged or truncated ({len(content):,} bytes)")
    return memory_pixels


def _decode_by_libjpeg(content: bytes, enough: int) -> Pixels | None:
    """Decode with simplejpeg, twice as fast as Pillow; return None where libjpeg so much as warns.

    It warns of stray bytes and wrong lengths, where the photo is whole, and of data that end too
    early, where it is not.
    """
    import simplejpeg

    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            content,
            colorspace="RGB",
            min_height=enough,
            min_width=enough,
            fastdct=False,
            fastupsample=False,
        )
    except Exception as error:  # a decoder's, as in `decoder_errors`; Pillow is asked next
        log.debug("libjpeg: %s", error)
        return None
    return pixels


def _decoded_pixels(kind: str, content: bytes, name: str, enough: int) -> tuple[int, int, bytes]:
    """Return a photo's width, height and upright RGB bytes; runs in the child."""
    if kind == "HEIC":
        image = _decode_heic(content, name, enough)
    else:
        image = _read_header(kind, content, name)
        tags = getattr(image, "tag_v2", {})
        # A camera's RAW file is a TIFF whose first image is a preview of stamp size.
        if _DNG_VERSION in tags or tags.get(_SUBFILE) == 1:
            raise InputError(f"{name}: is a camera's RAW file; export it as JPEG")
        with decoder_errors(name):
            image.load()
    photo = upright(image, name=name)
    return photo.width, photo.height, photo.tobytes()


def _decode_heic(content: bytes, name: str, enough: int) -> Image.Image:
    """Decode a HEIC, and reduce it where that is enough.

    HEVC has no reduced size as JPEG has: the image is decoded whole, 1.5 bytes a pixel and more, so
    its limit is of the header's size. The image is upright, since libheif turns it; EXIF often says
    so once more, and must not be followed.
    """
    import pi_heif

    # Nothing but the image itself is wanted, and each of these is one more parser.
    for extra in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES"):
        setattr(pi_heif.options, extra, False)
    with decoder_errors(name, what="HEIC photo"):
        file = pi_heif.open_heif(content, convert_hdr_to_8bit=True)
        if not len(file):
            raise InputError(f"{name}: is a HEIC without an HEVC image; save it as JPEG")
        width, height = file.size
    if width * height > HEIC_PIXELS:
        check_size(width, height, name=name)
    with decoder_errors(name, what="HEIC photo"):
        file[file.primary_index].load()
        image = _reduced(file.data, file.mode, file.size, file.stride, enough)
        # libheif keeps the colours of some images multiplied by their opacity.
        return image.convert(image.mode.replace("a", "A")) if "a" in image.mode else image


def _reduced(
    data: memoryview,
    mode: str,
    size: tuple[int, int],
    stride: int,
    enough: int = ENOUGH_PIXELS,
) -> Image.Image:
    """Return a smaller image, made a part at a time: Pillow would hold all in four bytes a pixel.

    Args:
        data: rows of `stride` bytes.
        mode: Pillow's, of its pixels.
        size: width and height.
        stride: bytes from one row to the next.
        enough: pixels of the shorter side.

    Returns:
        means of squares of pixels; the shorter side has `enough`, or more.
    """
    width, height = size
    factor = max(1, min(size) // enough)
    small = Image.new(mode, (-(-width // factor), -(-height // factor)))
    step = 64 * factor
    for top in range(0, height, step):
        rows = min(step, height - top)
        part = bytes(data[top * stride : (top + rows) * stride])
        band = Image.frombytes(mode, (width, rows), part, "raw", mode, stride)
        small.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return small


def _read_header(kind: str, content: bytes, name: str, *, any_size: bool = False) -> Image.Image:
    """Return an image whose header Pillow has read, and no pixel.

    Args:
        kind: the format, of `_PLUGINS`.
        content: the file's bytes.
        name: how to name it in an error.
        any_size: leave the limit of pixels to the caller, who reduces the size first.

    Raises:
        InputError: damaged, or past the limits.
    """
    module, plugin = _PLUGINS[kind]
    opener: Callable[[io.BytesIO], Image.Image] = getattr(importlib.import_module(module), plugin)
    with decoder_errors(name):
        image = opener(_CountedReads(content))
    if not any_size:
        check_size(image.width, image.height, name=name)
    run_lengths = kind == "BMP" and "rle" in str(getattr(image, "tile", ""))
    if run_lengths and image.width * image.height > RUN_LENGTH_PIXELS:
        raise InputError(
            f"{name}: {image.width} x {image.height} pixels in run lengths are more than "
            f"{RUN_LENGTH_PIXELS // 1_000_000} million; save it as PNG"
        )
    return image


class _CountedReads(io.BytesIO):
    """A file in memory that allows a number of reads: Pillow's parsers loop in Python.

    A file of 300 MB could otherwise be a hundred million chunks of nothing, each a turn of the
    loop.
    """

    _remaining = PHOTO_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, once more, if that is still allowed."""
        self._remaining -= 1
        if self._remaining < 0:
            raise InputError(f"more than {PHOTO_READS:,} pieces")
        return super().read(size)


def _one_large_at_a_time(pixels: int) -> contextlib.AbstractContextManager[object]:
    """Return a lock for a large image, and nothing for a small one."""
    return _large if pixels > LARGE_PIXELS else contextlib.nullcontext()
