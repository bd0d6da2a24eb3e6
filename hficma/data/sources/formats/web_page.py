"""Reads the recipes of a saved web page: by schema.org (JSON-LD, microdata, RDFa) or site layout.

Runs in a worker process (`page_worker`), since a page may be made to take minutes or all memory.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ....errors import InputError
from ....recipe.field_shapes import last_part
from .schema_org import decode_block, image_addresses, recipe_nodes, to_record

log = logging.getLogger("hficma")

# The comment of Internet Explorer and Chrome, and that of SingleFile.
_SAVED_FROM = re.compile(r"<!--\s*(?:saved from url=\(\d+\)|Page saved[^>]*?url:\s*)(https?://\S+)")
_END_OF_PAGE = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)
_LETTERS = re.compile(r"[\W_]+")


def read_page(content: bytes) -> dict[str, Any]:
    """Return a page's recipes by what it says of itself in schema.org's terms.

    Args:
        content: the file's bytes; the charset is the one that the page declares.

    Returns:
        `recipes`, records for `Recipe.parse` that have ingredients, with `images`, the addresses of
        their photos; `notes`, a line on each thing that gave none; `url`, the page's own address.

    Raises:
        InputError: its items are nested without end.
    """
    try:
        return _read_page(decode_page(content))
    except RecursionError as error:
        raise InputError("the page is nested too deep") from error


def _read_page(text: str) -> dict[str, Any]:
    tree = _parsed(text)
    if tree is None:
        return {"recipes": [], "notes": ["the page is empty"], "url": None}
    recipes: list[dict[str, Any]] = []
    notes: list[str] = []
    empty: list[str] = []
    for name, nodes in (
        ("JSON-LD", _json_ld(tree, notes)),
        ("microdata", _microdata(tree)),
        ("RDFa", _rdfa(tree)),
    ):
        for node in _readable(name, nodes, notes):
            record = {**to_record(node), "images": image_addresses(node)}
            if record["ingredients"]:
                _add(recipes, record)
            else:
                empty.append(record["title"] or "one without a name")
    titles = {_key(record["title"]) for record in recipes}
    empty = [title for title in dict.fromkeys(empty) if _key(title) not in titles]
    if empty:
        notes.append(f"no ingredients are given for: {', '.join(empty[:5])[:300]}")
    return {"recipes": recipes, "notes": notes, "url": _page_address(tree, text)}


def _readable(
    name: str, nodes: Iterator[Mapping[str, Any]], notes: list[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the nodes that a reader gives until the page breaks it; that is noted.

    Args:
        name: of the notation.
        nodes: of the reader.
        notes: appended to.
    """
    try:
        yield from nodes
    except (InputError, RecursionError):
        raise
    except Exception as error:  # a library's own, on a page that nobody foresaw
        notes.append(f"its {name} cannot be read ({type(error).__name__})")


def read_site_page(content: bytes, url: str) -> dict[str, Any] | None:
    """Return a page's one recipe by what recipe-scrapers knows of its site's layout.

    Args:
        content: the file's bytes.
        url: the page's own address.

    Returns:
        a record for `Recipe.parse` of the fields that the page has; None for an unknown site.
    """
    from recipe_scrapers import scrape_html, scraper_exists_for

    if not scraper_exists_for(url):
        return None
    record: dict[str, Any] = {}
    # A site's reader meets pages from before and after the layout it was written for: whatever it
    # raises on one, the field is not there.
    try:
        scraper = scrape_html(decode_page(content), org_url=url, supported_only=True)
    except Exception as error:
        log.debug("recipe-scrapers on %s: %r", url, error)
        return None
    for field, method in _SITE_FIELDS.items():
        try:
            value = getattr(scraper, method)()
        except Exception as error:
            log.debug("recipe-scrapers on %s, %s: %r", url, field, error)
            continue
        if isinstance(value, str):
            record[field] = value.strip()
        elif isinstance(value, list):
            record[field] = [line.strip() for line in value if isinstance(line, str)]
    return record


_SITE_FIELDS = {
    "title": "title", "ingredients": "ingredients", "instructions": "instructions_list",
    "category": "category", "image": "image",
}  # fmt: skip


def site_is_known(url: str | None) -> bool:
    """Return whether recipe-scrapers knows the site of an address; None has none."""
    from recipe_scrapers import scraper_exists_for

    try:
        return url is not None and bool(scraper_exists_for(url))
    except ValueError:  # no address
        return False


def decode_page(content: bytes) -> str:
    """Decode a page as browsers do: byte order mark, declared charset, else UTF-8, else cp1252.

    A page that says UTF-8 and has other bytes here and there (pasted by an editor of another
    charset) is read as UTF-8, and those bytes as cp1252.

    Args:
        content: the file's bytes.
    """
    from w3lib.encoding import html_body_declared_encoding, html_to_unicode, read_bom

    if read_bom(content)[0] is None:
        declared = html_body_declared_encoding(content)
        if declared in (None, "cp1252"):
            # Old pages declare Latin-1 whatever they are; text that is valid UTF-8 by accident is
            # rare.
            try:
                return content.decode("utf-8")
            except UnicodeDecodeError:
                return content.decode("cp1252", errors="replace")
        # A declaration of UTF-16 that was read byte by byte is wrong: in UTF-16 it could not be.
        if declared.startswith(("utf-8", "utf-16", "utf-32")):
            return content.decode("utf-8", errors=_STRAY_BYTES)
    try:
        return str(html_to_unicode(None, content)[1])
    except (LookupError, ValueError, AssertionError):  # "base64" and "idna" are codecs too
        return content.decode("utf-8", errors=_STRAY_BYTES)


_STRAY_BYTES = "hficma_stray_bytes"
"""Name of an error handler for `bytes.decode`."""


def _stray_bytes(error: UnicodeError) -> tuple[str, int]:
    """Return bytes that are no UTF-8 as cp1252 has them, for `codecs.register_error`."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", errors="replace"), error.end


codecs.register_error(_STRAY_BYTES, _stray_bytes)


def _parsed(text: str) -> Any:
    """Return a page's tree of elements, or None where it has none."""
    import lxml.html

    parser = lxml.html.HTMLParser(encoding="utf-8")
    # libxml2 passes over what follows </html>, where programs that cache pages put their scripts
    # and browsers still read them.
    text = _END_OF_PAGE.sub(" ", text.replace("\0", "\ufffd"))
    encoded = text.encode("utf-8", errors="replace")
    try:
        return lxml.html.document_fromstring(encoded, parser=parser)
    except lxml.etree.ParserError:  # nothing in it is an element or text
        return None


def _json_ld(tree: Any, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the Recipes of all JSON-LD scripts; one that is broken is noted."""
    for script in tree.iter("script"):
        kind = (script.get("type") or "").partition(";")[0].strip().lower()
        block = script.text or ""
        if kind != "application/ld+json" or not block.strip():
            continue
        try:
            yield from recipe_nodes(decode_block(block, "the page"))
        except InputError as error:
            notes.append(str(error).removeprefix("the page: "))


def _microdata(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the Recipes in microdata."""
    from extruct.w3cmicrodata import MicrodataExtractor

    # `ingredients` is the old name of the property. Renamed before it is read, since pages that
    # have both would give the lines of one after those of the other.
    for element in tree.iterfind(".//*[@itemprop]"):
        if last_part(element.get("itemprop").strip()) == "ingredients":
            element.set("itemprop", "recipeIngredient")
        elif ":" in element.get("itemprop"):
            element.set("itemprop", " ".join(map(last_part, element.get("itemprop").split())))
    if next(tree.iterfind(".//*[@itemscope]"), None) is not None:
        items = MicrodataExtractor().extract_items(tree, base_url="")
        yield from recipe_nodes([_as_json_ld(item) for item in items])


def _as_json_ld(item: Any, depth: int = 0) -> Any:
    """Return a microdata item in JSON-LD's shape."""
    if isinstance(item, list):
        return [_as_json_ld(inner, depth + 1) for inner in item]
    if not isinstance(item, Mapping):
        return item
    fields = {
        key: _as_json_ld(value, depth + 1) for key, value in item.get("properties", {}).items()
    }
    if "type" in item:
        fields["@type"] = item["type"]
    if "value" in item:
        fields["@value"] = item["value"]
    return fields


def _rdfa(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the Recipes in RDFa Lite, by renaming its attributes to those of microdata.

    The two differ in names only. A reader of RDFa proper gives triples, which have no order, and
    steps need theirs.
    """
    if next(tree.iterfind(".//*[@typeof]"), None) is None:
        return
    for element in tree.iter():
        for name in ("itemscope", "itemtype", "itemprop"):
            element.attrib.pop(name, None)
    for element in tree.iterfind(".//*[@typeof]"):
        element.set("itemscope", "")
        element.set("itemtype", element.get("typeof"))
    for element in tree.iterfind(".//*[@property]"):
        element.set("itemprop", element.get("property"))
    yield from _microdata(tree)


def _add(recipes: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Add a recipe unless the page had it already, in this notation or another."""
    for known in recipes:
        same_title = _key(known["title"]) == _key(record["title"])
        same_content = _key(*known["ingredients"]) == _key(*record["ingredients"])
        if same_content or (same_title and record["title"]):
            for field, value in record.items():
                known[field] = known[field] or value
            return
    recipes.append(record)


def _key(*texts: str) -> str:
    """Return texts without case, spaces and punctuation, to compare them."""
    return _LETTERS.sub("", " ".join(texts)).casefold()


def _page_address(tree: Any, text: str) -> str | None:
    """Return the address that a page was saved from, or that it gives as its own."""
    if saved := _SAVED_FROM.search(text[:5000]):
        return saved[1]
    for path, attribute in (
        (".//link[@rel='canonical']", "href"), (".//meta[@property='og:url']", "content"),
    ):  # fmt: skip
        for element in tree.iterfind(path):
            address = (element.get(attribute) or "").strip()
            if address.startswith(("http://", "https://")):
                return str(address)
    return None
