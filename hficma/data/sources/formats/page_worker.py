"""Reads saved web pages in a worker process, within bounds of time and memory.

Pages come from anywhere, and the libraries that read them have loops that a page can make endless.
"""

from __future__ import annotations

import email
import email.policy
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from ....errors import InputError, MissingDependencyError
from ....limits import reason
from ....untrusted.worker import Worker
from .recipe_file import RawRecord
from .web_page import read_page, read_site_page

log = logging.getLogger("hficma")

PACKAGES = ("lxml.html", "w3lib.encoding", "extruct", "recipe_scrapers")
"""The packages that read pages; the extra `data` installs them."""

_MHTML = (b"from:", b"mime-version:", b"content-type: multipart", b"subject:", b"date:")


def page_worker() -> Worker:
    """Start a worker for `read_page_file`, with the packages imported.

    Importing takes a second, which no page's time should pay.

    Raises:
        MissingDependencyError: a package that reads pages is not installed.
    """
    if any(importlib.util.find_spec(package.partition(".")[0]) is None for package in PACKAGES):
        raise MissingDependencyError("recipe-scrapers", "data", "reading web pages")
    return Worker(
        modules=[*PACKAGES, "extruct.w3cmicrodata", "hficma.data.sources.formats.web_page"]
    )


def read_page_file(
    worker: Worker, content: bytes, name: str, seconds: float, *, sites: bool = True
) -> tuple[list[RawRecord], list[str]]:
    """Return a saved page's recipes, and a note on each thing on it that gives none.

    What the page says of itself (schema.org) is read first. Where its site is one whose layout
    recipe-scrapers knows and the page holds no more than one recipe, that library's reading goes
    before: sites show amounts and steps that they leave out of what they write for search engines.

    Args:
        worker: of `page_worker`.
        content: of the file, HTML or MHTML.
        name: of the file, for errors.
        seconds: that each of the two readings may take.
        sites: use recipe-scrapers' knowledge of sites' layouts.

    Raises:
        InputError: the page took too long or too much memory, or is no page.
    """
    if content[:400].lstrip().lower().startswith(_MHTML):
        content = _html_of_mhtml(content, name)
    try:
        page = worker.call(read_page, content, name=name, seconds=seconds)
    except InputError as error:
        message = str(error)
        raise InputError(message if name in message else f"{name}: {message}") from error
    recipes: list[dict[str, Any]] = page["recipes"]
    notes: list[str] = page["notes"]
    if sites and page["url"] and len(recipes) < 2:
        try:
            site_recipe = worker.call(
                read_site_page, content, page["url"], name=name, seconds=seconds
            )
        except InputError as error:
            if not recipes:
                raise
            log.warning("%s; read by what the page says of itself", error)
            site_recipe = None
        if site_recipe and site_recipe.get("ingredients"):
            known = recipes[0] if recipes else {"url": page["url"], "images": []}
            recipes = [_merged(known, site_recipe)]
    if recipes:
        return [RawRecord(fields=_fields(r), photos=tuple(r["images"])) for r in recipes], (
            notes if len(recipes) > 1 else []
        )
    return [], notes or ["the page holds no schema.org Recipe (JSON-LD, microdata or RDFa)"]


def _merged(known: Mapping[str, Any], site_recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the site's fields over the page's own, except for photos and category."""
    merged = {
        **known,
        **{key: value for key, value in site_recipe.items() if value and key != "image"},
    }
    if site_recipe.get("image") and not known["images"]:
        merged["images"] = [site_recipe["image"]]
    merged["image"] = next(iter(merged["images"]), None)
    if known.get("category"):
        merged["category"] = known["category"]
    return merged


def _fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "images"}


def _html_of_mhtml(content: bytes, name: str) -> bytes:
    """Return the page of a web archive as mail (MHTML), as Chrome and Edge save one file."""
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        for part in message.walk():
            if part.get_content_type() in ("text/html", "application/xhtml+xml"):
                html = part.get_payload(decode=True)
                if isinstance(html, bytes):
                    return html
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{name}: is no web archive ({reason(error)})") from error
    raise InputError(f"{name}: the web archive holds no page")
