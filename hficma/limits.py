"""Limits on what comes from outside (bytes, pixels, depth, time), and readers that keep to them.

A file, a page or a photo of someone else is read through one of the functions below, or measured
against one of these numbers before anything of its size is allocated. Each number is far above what
real inputs reach and far below what hurts; what goes past it is an `InputError` of one line.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import stat
import zlib
from pathlib import Path
from typing import IO, Any

from .errors import InputError
from .printable import printable

MEGABYTE = 1_000_000
"""Bytes."""

PHOTO_BYTES = 300 * MEGABYTE
"""Bytes of a photo's file; a 200-megapixel HEIC or JPEG takes 10 to 60 MB, a 16-bit TIFF 300 MB."""
PHOTO_PIXELS = 100_000_000
"""Pixels of an image that is decoded, which Pillow holds in 400 MB. JPEGs may have more: they are
decoded at a reduced size."""
JPEG_SCANNED_PIXELS = 2_500_000_000
"""A JPEG's pixels times its scans: a decoder passes over all pixels once a scan, however few bytes
the scan has. A photo of 200 megapixels in the ten scans of a progressive file has 2,000,000,000."""
JPEG_KEPT_PIXELS = 256_000_000
"""Pixels of a JPEG of several scans: their coefficients are held in memory until the last one."""
HEIC_PIXELS = 256_000_000
"""Pixels of a HEIC, which is decoded whole before it is reduced. Phones take 200 megapixels: 9 s
and 0.9 GB."""
RUN_LENGTH_PIXELS = 16_000_000
"""Pixels of a bitmap in run lengths, which Pillow unpacks at about ten million a second."""
ENOUGH_PIXELS = 512
"""Pixels of the shorter side down to which a decoder reduces a larger photo: twice what most image
encoders read, so that the scaling, and not the decoder's, decides how it looks to them."""
PHOTO_READS = 500_000
"""Pieces that a photo's file is read in: chunks of a PNG, blocks of a GIF, runs of a bitmap."""
PHOTO_ASPECT = 16
"""Long side divided by short side: of a longer photo only the centre is read. Scaled to a short
side of 256 pixels, one of 1 x 100,000 would have 25,600,000 rows, of which the model sees 224."""
TEXT_BYTES = 20 * MEGABYTE
"""Bytes of a page, a recipe or any other text that is read whole; the longest saved pages take 5
MB."""
RECIPES_BYTES = 50 * MEGABYTE
"""Bytes of a file of many recipes or of photos in base64 (JSON, CSV); JSONL is streamed and may be
longer."""
LINE_BYTES = 4 * MEGABYTE
"""Bytes of a line of a JSONL file."""
JSON_DEPTH = 100
"""Levels of lists and objects inside each other; JSON-LD graphs reach about 15."""
GZIP_RATIO = 200
"""Bytes that one byte unpacks to: text reaches 5 to 20, and DEFLATE at most 1,032."""
GZIP_FREE_BYTES = 64 * MEGABYTE
"""Unpacked bytes up to which the ratio does not matter."""

ARCHIVE_MEMBERS = 500_000
"""Files in a ZIP archive; an export has two to five for a recipe."""
ARCHIVE_DEPTH = 3
"""Levels of archives inside each other; an export of Tandoor has 2."""
PAGE_SECONDS = 10.0
"""Seconds for reading one web page; the longest saved ones take half a second."""

_OTHER_KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISSOCK, "is a socket"),
)


def open_regular_file(path: str | os.PathLike[str], *, what: str = "a file") -> IO[bytes]:
    """Open a regular file for reading, and nothing else.

    Args:
        path: of the file; a link to a file is followed.
        what: it should be ("an image file"), for the message.

    Raises:
        InputError: missing, not permitted, a directory, pipe, device or socket.
    """
    shown = printable_path(path)
    # Without O_NONBLOCK, opening a pipe waits for its writer, for ever; the kind is asked of the
    # open descriptor, since a name can be replaced between a look at it and the opening.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # which Windows does not open
            raise InputError(f"{shown}: is a directory; give {what}") from error
        if isinstance(error, OSError) and error.errno == errno.ENXIO:
            raise InputError(f"{shown}: is a socket; give {what}") from error
        raise InputError(f"{shown}: cannot be read ({reason(error)})") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((text for test, text in _OTHER_KINDS if test(mode)), "is no regular file")
        raise InputError(f"{shown}: {kind}; give {what}")
    return os.fdopen(descriptor, "rb")


def read_regular_file(
    path: str | os.PathLike[str], *, limit: int = TEXT_BYTES, what: str = "a file"
) -> bytes:
    """Read a regular file whole, if it is not too long.

    Args:
        path: of the file.
        limit: bytes, at most.
        what: it should be, for the message.

    Raises:
        InputError: as `open_regular_file`, longer than `limit`, or the disk cannot read it.
    """
    shown = printable_path(path)
    with open_regular_file(path, what=what) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            # What is asked for is allocated first, so it is the file's size and not the limit; one
            # byte more, since a file may grow while it is read.
            content = file.read(size + 1) if size <= limit else b""
            if len(content) > size and size <= limit:
                content += file.read(limit + 1 - len(content))
        except OSError as error:
            raise InputError(f"{shown}: cannot be read ({reason(error)})") from error
    if max(size, len(content)) > limit:
        raise InputError(
            f"{shown}: has {max(size, len(content)):,} bytes; {what} may have {limit:,}"
        )
    return content


def parse_json(content: str | bytes, *, name: str, limit: int = TEXT_BYTES) -> Any:
    """Decode JSON of bounded length and depth.

    Args:
        content: text, or UTF-8, UTF-16 or UTF-32 with or without a byte order mark.
        name: how to name it in an error.
        limit: bytes or characters, at most.

    Raises:
        InputError: too long, too deep, or no JSON.
    """
    if len(content) > limit:
        raise InputError(f"{name}: has {len(content):,} bytes; JSON may have {limit:,} here")
    try:
        if isinstance(content, bytes):
            content = content.decode(json.detect_encoding(content))
        value = json.loads(content.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not UTF-8 text") from error
    except RecursionError as error:
        raise InputError(f"{name}: is nested deeper than {JSON_DEPTH} levels") from error
    except ValueError as error:
        raise InputError(f"{name}: is not valid JSON ({error})") from error
    # Most records have fewer brackets than levels are allowed: then nothing need be walked.
    if content.count("[") + content.count("{") > JSON_DEPTH and _depth_exceeds(value, JSON_DEPTH):
        raise InputError(f"{name}: is nested deeper than {JSON_DEPTH} levels")
    return value


def gunzip(content: bytes, *, name: str, limit: int = TEXT_BYTES) -> bytes:
    """Decompress gzip that is not too long.

    Args:
        content: of the gzip file.
        name: how to name it in an error.
        limit: unpacked bytes, at most.

    Raises:
        InputError: longer, damaged, or no gzip.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            plain = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: is no whole gzip file ({error})") from error
    if len(plain) > limit:
        raise InputError(f"{name}: unpacks to more than {limit:,} bytes")
    return plain


def open_gzip(path: str | os.PathLike[str], *, what: str = "a file") -> IO[bytes]:
    """Open a gzip file for reading as a stream of any length, unless it is a bomb.

    Args:
        path: of the file.
        what: it should be, for the message.

    Raises:
        InputError: as `open_regular_file`; while reading, where more than `GZIP_RATIO` bytes come
            out for a byte that went in.
    """
    return io.BufferedReader(_BoundedGzip(open_regular_file(path, what=what), str(path)))


class _BoundedGzip(io.RawIOBase):
    """A gzip stream that ends with an error where its output is out of proportion to its input."""

    def __init__(self, compressed: IO[bytes], name: str) -> None:
        self._compressed = compressed
        self._file = gzip.GzipFile(fileobj=compressed)
        self._name = name
        self._out = 0

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; see `io.RawIOBase`."""
        try:
            content = self._file.read(len(buffer))
        except zlib.error as error:
            raise OSError(str(error)) from error
        self._out += len(content)
        read = max(1, self._compressed.tell())
        if self._out > GZIP_FREE_BYTES and self._out > GZIP_RATIO * read:
            raise InputError(
                f"{self._name}: unpacks to over {GZIP_RATIO} times its size; "
                "if it is meant so, unpack it first"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close both streams."""
        if not self.closed:
            self._file.close()
            self._compressed.close()
        super().close()


def reason(error: Exception) -> str:
    """Return the message of an error in one line, without an OSError's number and path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def printable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as one line that any UTF-8 file or stream takes.

    Names need not be UTF-8, and may hold line ends and other control characters.
    """
    try:
        return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))
    except UnicodeEncodeError:  # half of a surrogate pair that stands for no byte: not from a disk
        return printable(os.fspath(path))


def is_regular_file(path: Path) -> bool:
    """Return whether a path is a file or a link to one; no path is an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the system, or with a zero byte
        return False


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Return whether lists and objects lie more than `limit` deep, without recursion."""
    level: list[Any] = [value]
    for _ in range(limit + 1):
        level = [
            item
            for holder in level
            if isinstance(holder, (list, dict))
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return any(isinstance(item, (list, dict)) for item in level)
