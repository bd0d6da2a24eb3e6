"""Reading a request's body, within limits of bytes and time, into queries and options.

A body is JSON, a form (`multipart/form-data`), or a photo's bytes as they are. Options stand in the
address, and in a form's fields or the JSON object, which come first where both say something.
Nothing touches the disk, and no path or address in a request is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from hficma.limits import parse_json

from .. import metrics
from ..options import BODIES_BYTES, BODY_GRACE, BODY_RATE, MOST_QUERIES
from ..refusals import BadRequest, ClientGone, TooLarge, TooSlow, Unavailable, Unusable

Model = TypeVar("Model", bound=BaseModel)

FORM_FIELDS = 1000
"""Fields of a form, at most."""
_MESSAGES = {"extra_forbidden": "is not known here; /docs lists what is", "missing": "is missing"}


class BodyBudget:
    """Counts the bytes of all bodies that are held, so that many large ones cannot add up.

    Args:
        limit: bytes of one body, at most.
        total: of all together.
    """

    def __init__(self, limit: int, total: int = BODIES_BYTES) -> None:
        self.limit = limit
        self._total = max(total, limit)
        self._held = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[BodyShare]:
        """Count a body for a block."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self._add(-share.size)

    def _add(self, size: int) -> None:
        """Count more or fewer bytes."""
        self._held += size
        metrics.BODY_BYTES.set(self._held)

    @property
    def _left(self) -> int:
        """Return how many more bytes may be held."""
        return self._total - self._held

    def take(self, size: int) -> None:
        """Count bytes that come.

        Raises:
            Unavailable: all that may be held is.
        """
        if size > self._left:
            raise Unavailable("too many large requests at once; try again in a moment")
        self._add(size)


class BodyShare:
    """The bytes of one body.

    Args:
        budget: that they are counted in.
    """

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size = 0

    async def read(self, request: Request) -> bytes:
        """Read a request's body whole.

        Raises:
            TooLarge: more bytes than the service takes; said before they are read where the client
                tells their number.
            TooSlow: they come too slowly.
            ClientGone: they end before their end.
            Unavailable: all that may be held is.
        """
        limit = self._budget.limit
        if _content_length(request) > limit:
            raise _too_large(limit)
        start = time.monotonic()
        chunks: list[bytes] = []
        stream = request.stream()
        try:
            while True:
                # A client that sends a byte a second is cut off, one on a slow line is not.
                due = start + BODY_GRACE + self.size / BODY_RATE
                async with asyncio.timeout(due - time.monotonic()):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return b"".join(chunks)
                self._budget.take(len(chunk))
                self.size += len(chunk)
                if self.size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
        except TimeoutError as error:
            raise TooSlow("the body came too slowly; try again") from error
        except ClientDisconnect as error:
            raise ClientGone("the connection ended within the body") from error


def _content_length(request: Request) -> int:
    """Return how many bytes the client says that it sends; 0 where it does not say."""
    text = request.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit:,} bytes; send a smaller photo")


class RequestContent:
    """A body that was read: fields by name, and photos in their order.

    Attributes:
        fields: what JSON, a form and the address say; lists where a name stands there twice.
        photos: files of photos.
    """

    def __init__(self, fields: dict[str, Any], photos: list[bytes]) -> None:
        self.fields = fields
        self.photos = photos

    def only_photo(self) -> bytes | None:
        """Return the photo, or None where there is none.

        Raises:
            Unusable: there are several.
        """
        if len(self.photos) > 1:
            raise Unusable("takes one photo; several go to /search/batch")
        return self.photos[0] if self.photos else None

    def as_model(self, model: type[Model], **more: Any) -> Model:
        """Return the fields, checked.

        Args:
            model: what they must be.
            **more: fields besides.

        Raises:
            Unusable: one is unknown or not as it must be; the line names it.
        """
        try:
            return model.model_validate(self.fields | more)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(part)[:80] for part in first["loc"])
            what = _MESSAGES.get(first["type"]) or first["msg"]
            raise Unusable(f"{place or 'request'}: {what}") from error


async def read_body(request: Request, share: BodyShare) -> RequestContent:
    """Read a request's body and address.

    Args:
        request: its head was read.
        share: counts its bytes.

    Raises:
        Refusal: too large, too slow, or its form is wrong.
        InputError: it is no JSON.
    """
    content = await share.read(request)
    fields = _joined(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await _form(request, content)
        photos, texts = [], []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "photo":
                    raise BadRequest("files of a form must be called photo")
                photos.append(await value.read())
            else:
                texts.append((name, value))
        return RequestContent(fields | _joined(texts), photos)
    if not content and not kind.startswith("image/"):
        return RequestContent(fields, [])
    if kind == "application/json":
        record = parse_json(content, name="body", limit=len(content))
        if not isinstance(record, dict):
            raise Unusable("body: must be a JSON object")
        return RequestContent(fields | record, [])
    if kind.startswith("image/") or kind in ("application/octet-stream", ""):
        return RequestContent(fields, [content])
    raise BadRequest("send a photo's bytes, a form (multipart/form-data) or application/json")


def _joined(items: list[tuple[str, str]]) -> dict[str, Any]:
    """Return values by name; a list of a name's values where there are several."""
    fields: dict[str, Any] = {}
    for name, value in items:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


async def _form(request: Request, content: bytes) -> FormData:
    """Parse a form in memory.

    Raises:
        BadRequest: it is none.
    """

    async def stream() -> AsyncIterator[bytes]:
        yield content

    parser = _MemoryParser(
        request.headers,
        stream(),  # type: ignore[arg-type]
        max_files=MOST_QUERIES,
        max_fields=FORM_FIELDS,
        max_part_size=len(content) + 1,
    )
    try:
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise BadRequest("the form is not valid multipart/form-data") from error


class _MemoryParser(MultiPartParser):
    """Keeps files in memory, whose size the body's bounds: nothing of a photo reaches a disk."""

    spool_max_size = 1 << 62
