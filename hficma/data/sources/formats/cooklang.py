"""Reads Cooklang: a recipe as text whose steps mark their ingredients, https://cooklang.org.

    Mash @potato{2%kg} with a #masher{} until smooth, for ~{5%minutes}.

`@` marks an ingredient, `#` a tool and `~` a time; braces hold an amount, `%` before its unit.
Paragraphs are steps, `>> key: value` and YAML at the beginning are metadata, `=` begins a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ....errors import InputError
from ....limits import reason
from ....recipe.field_names import known_fields
from .recipe_file import RawRecord
from .text_file import decode_text

MAX_FRONT_MATTER = 100_000
"""Characters of YAML before the recipe, at most; a page of it is long already."""

# Two dashes begin a comment only where they begin a word: "20--30 minutes" is an amount.
_LINE_COMMENT = re.compile(r"(?:^|(?<=\s))--.*")
_METADATA = re.compile(r">>\s*([^:]+):\s*(.*)")
_SECTION = re.compile(r"=+\s*(.*?)\s*=*\s*$")
# A name of several words needs braces, and may hold no other mark on its way there; without braces
# it is one word, which punctuation ends. Modifiers (&, ?, -, +, and @ for another recipe) may stand
# before the name. A mark inside a word (me@home.org) is none.
_MARK = re.compile(
    r"(?<!\w)([@#~])[@&?+\-]{0,5}"
    r"(?:([^@#~{}\n]*)\{([^{}\n]*)\}|((?:\./|\.\./)?[^\s\W](?:[\w'’/-]*\w)?))"
    r"(?:\(([^()\n]*)\))?"
)


def read_cooklang(content: bytes, name: str) -> Iterable[RawRecord]:
    """Return the recipe of a Cooklang file.

    Args:
        content: the file's bytes.
        name: of the file: the title where the metadata have none.

    Raises:
        InputError: its front matter is no YAML.
    """
    text = decode_text(content).replace("\r\n", "\n")
    metadata, text = _front_matter(text, name)
    text = _without_block_comments(text)
    ingredients: dict[str, None] = {}
    steps: list[str] = []
    paragraph: list[str] = []

    def end_paragraph() -> None:
        step = " ".join(" ".join(paragraph).split())
        paragraph.clear()
        if step:
            steps.append(step)

    for line in text.split("\n"):
        line = _LINE_COMMENT.sub("", line).strip().removesuffix("\\")
        if field := _METADATA.match(line):
            metadata[field[1].strip()] = field[2].strip()
        elif line.startswith(">"):  # a note, which is no step
            end_paragraph()
        elif line.startswith("="):
            end_paragraph()
            section = _SECTION.match(line)
            steps += [section[1]] if section and section[1] else []
        elif line:
            paragraph.append(_plain_line(line, ingredients))
        else:
            end_paragraph()
    end_paragraph()
    fields = known_fields(metadata)
    fields.setdefault("title", name.rpartition("/")[2].rpartition(".")[0])
    fields["ingredients"], fields["instructions"] = list(ingredients), steps
    return [RawRecord(fields=fields)]


def _without_block_comments(text: str) -> str:
    """Return the text without `[- ... -]`.

    A pattern would look for the end from each of a million beginnings that have none.
    """
    parts: list[str] = []
    place = 0
    while (start := text.find("[-", place)) >= 0 and (end := text.find("-]", start + 2)) >= 0:
        parts.append(text[place:start])
        place = end + 2
    return "".join((*parts, text[place:]))


def _plain_line(line: str, ingredients: dict[str, None]) -> str:
    """Return a line without its marks, and add its ingredients to `ingredients`."""

    def plain(mark: re.Match[str]) -> str:
        kind, several, amount, single, note = mark.groups()
        name = (several if several is not None else single or "").strip()
        quantity = " ".join(part.strip() for part in (amount or "").lstrip("=").split("%")).strip()
        if kind == "~":
            return quantity or name
        label = name.partition("|")[2] or name.partition("|")[0]
        if name.startswith(("./", "../")):  # another recipe
            label = name.rpartition("/")[2]
        if kind == "@" and label:
            line = f"{quantity} {label}".strip()
            ingredients[f"{line}, {note.strip()}" if note and note.strip() else line] = None
        return f"{label} ({note})" if note and kind == "@" else label

    return _MARK.sub(plain, line)


def _front_matter(text: str, name: str) -> tuple[dict[str, Any], str]:
    """Return the YAML between `---` lines at a file's beginning, and the rest."""
    start = text.lstrip("\ufeff \n")
    if not start.startswith("---\n"):
        return {}, text
    block, mark, rest = start[4:].partition("\n---")
    if not mark or len(block) > MAX_FRONT_MATTER:
        return {}, text
    import yaml

    try:
        # An alias repeated makes a list of a billion items from ten lines.
        events = yaml.parse(block, Loader=yaml.BaseLoader)
        aliases = any(isinstance(event, yaml.AliasEvent) for event in events)
        # All scalars as text: PyYAML's makers of numbers and dates fail on some (`!!int ""`).
        value = None if aliases else yaml.load(block, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: its front matter is no YAML ({reason(error)})") from error
    if aliases:
        raise InputError(f"{name}: its front matter has YAML aliases, which are not read")
    metadata = value if isinstance(value, dict) else {}
    return {str(key): value for key, value in metadata.items()}, rest.partition("\n")[2]
