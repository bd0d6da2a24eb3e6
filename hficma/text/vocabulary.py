"""The vocabulary, and the tokenizer: what a model reads of a recipe, as ids.

    Recipe ──▶ Tokenizer ──▶ RecipeIds: ingredients (T,), sentences S x (W,)

Ids are rows of an embedding table: 0 pads, 1 ends, i + 2 is word i of the vocabulary.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..artifacts.json_fields import LARGEST_SIZE, Fields, dataclass_fields, integer, strict_json
from ..artifacts.json_fields import text as text_of
from ..errors import ArtifactError, InputError
from ..limits import MEGABYTE, read_regular_file
from ..recipe import Recipe
from ..types import Ids
from . import ingredients
from . import ingredients_v1 as ingredients_1
from .text_architecture import TextArchitecture
from .text_tokenizer import TextTokenizer
from .words import sentences, words

VOCABULARY_FILE = "vocabulary.json"
"""Its name in every directory that has one: vectors, runs, bundles, datasets."""

PAD_ID = 0
END_ID = 1
"""The published `</i>`; stands alone where no ingredient of a recipe is known."""
FIRST_WORD_ID = 2
"""Row i + 2 of an embedding table holds word i (the published loaders are off by these two)."""

TITLE, INSTRUCTIONS, INGREDIENTS = 1, 2, 3
"""Fields of a recipe, as the graph `recipe` numbers them; 0 pads."""

LONGEST_FIELD = 2048
"""Words read of a whole field; the longest real instructions have 1,500."""

REMEMBERED_LINES = 65_536
"""Ingredient lines whose ids a tokenizer remembers, about 10 MB."""
REMEMBERED_LENGTH = 200
"""Characters of a line that is remembered; longer ones hardly come again."""
_UNREAD = -1


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """What of a recipe the model reads."""

    title: Literal["none", "instruction", "balanced"] = "instruction"
    """`instruction` reads the title as the recipe's first instruction, `balanced` as often as there
    are instructions, so that a mean over both weighs them alike; HF-ICMA ignores it."""
    max_ingredients: int = 20
    """The most ingredients (T); those past it are left out."""
    max_sentences: int = 20
    """The most sentences of the instructions (S); those past it are left out."""
    max_words: int = 30
    """The most words of a sentence (W); those past it are left out."""
    unit: Literal["sentence", "field"] = "sentence"
    """What words are read together: each sentence, and the name in each ingredient line; or a whole
    `field`, every word of the title, of the instructions, and of the ingredient lines. The latter
    is for means of words, by `global_text: fields`."""
    end_marker: bool = False
    """End the ingredients with `</i>`, as the published datasets do; takes the place of one."""
    reader: Literal[1, 2] = 2
    """Rules that find the ingredient of a line. A model keeps those that it was trained with:
    1 (`ingredients_v1`) are those of models that name none, 2 (`ingredients`) leave out section
    heads, sizes and brands."""

    encoder: str = ""
    """Folder of a pretrained text encoder that reads recipes too: a sentence-transformer, or CLIP's
    or SigLIP's text tower."""
    architecture: str = ""
    """JSON text of its layers (`TextArchitecture`). Filled in when training begins, so that runs
    and bundles need no folder."""
    encoder_reads: Literal["fields", "line"] = "fields"
    """`fields` reads the title, each sentence of the instructions and the ingredients as texts of
    their own, `line` title and ingredients as one."""
    encoder_tokens: int = 0
    """The most tokens of such a text; 0: as many as the encoder takes."""

    @property
    def longest_sentence(self) -> int:
        """Return the most words (W) that are read as one sentence."""
        return LONGEST_FIELD if self.unit == "field" else self.max_words

    @cached_property
    def text_architecture(self) -> TextArchitecture | None:
        """Return the layers of the text encoder, or None where there is none.

        Raises:
            ValueError: it is written in another form.
        """
        return TextArchitecture.from_text(self.architecture) if self.architecture else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without what models of earlier releases had not.

        `model_id` hashes them; the first rules are not named either.
        """
        record = dataclasses.asdict(self)
        return {key: value for key, value in record.items() if (key, value) not in _EARLIER}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TextConfig:
        """Read what `to_json` wrote, or what was written before there was a choice of rules.

        Raises:
            ValueError: a field is of another type, out of its range or unknown.
        """
        fields = dataclass_fields(cls, record, "the options of the text", most=LARGEST_SIZE)
        config = cls(**{"reader": 1, **fields})
        _ = config.text_architecture  # raises where it is damaged
        return config


_EARLIER = (
    ("reader", 1),
    ("unit", "sentence"),
    ("encoder", ""),
    ("architecture", ""),
    ("encoder_reads", "fields"),
    ("encoder_tokens", 0),
)
"""Fields that came after models were saved without them, with the value that those have."""


VOCABULARY_BYTES = 200 * MEGABYTE
"""A vocabulary's file; a million words take 15 MB."""


@dataclass(frozen=True)
class Vocabulary:
    """Words and joined ingredient names (`olive_oil`), by falling count.

    Word i has id i + 2 everywhere: 0 pads, 1 ends (`</i>`).
    """

    words: tuple[str, ...]
    """V words, each once; names of several words are joined by `_`."""
    counts: tuple[int, ...] = field(repr=False)
    """How often each was seen in training text; same length."""

    def __post_init__(self) -> None:
        if len(self.words) != len(self.counts):
            raise ValueError(f"{len(self.words)} words but {len(self.counts)} counts")
        if len(self._index) != len(self.words):
            raise ValueError("a vocabulary holds each word once")

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: position + FIRST_WORD_ID for position, word in enumerate(self.words)}

    def __len__(self) -> int:
        """Return the number of words, without the two reserved ids."""
        return len(self.words)

    @property
    def table_rows(self) -> int:
        """Return the rows of an embedding table over this vocabulary."""
        return len(self.words) + FIRST_WORD_ID

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def id_of(self, word: str) -> int | None:
        """Return the id of a word, or None where it is unknown."""
        return self._index.get(word)

    def ids_of(self, sequence: Sequence[str]) -> Ids:
        """Return the ids of the known words of a sequence, in order; unknown ones are left out."""
        known = (self._index.get(word) for word in sequence)
        return np.array([number for number in known if number is not None], dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        content = {"words": self.words, "counts": self.counts}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary that `save` wrote.

        Raises:
            ArtifactError: no such file, too long, or anything but words and their counts.
        """
        try:
            fields = Fields(
                strict_json(read_regular_file(path, limit=VOCABULARY_BYTES, what=f"a {path.name}")),
                "it",
                ("words", "counts"),
            )
            words = tuple(text_of(word, "a word") for word in fields.sequence("words"))
            counts = tuple(integer(count, "a count") for count in fields.sequence("counts"))
            return cls(words, counts)
        except (InputError, ValueError) as error:
            raise ArtifactError(f"{path}: is no vocabulary ({error})") from error


@dataclass(frozen=True)
class RecipeIds:
    """What the model reads of one recipe."""

    ingredients: Ids
    """Ingredient ids (T,), at least one."""
    sentences: tuple[Ids, ...]
    """Word ids (W,) of each of the S sentences, none empty; at least one sentence."""
    titles: int = 0
    """How many of the sentences, the first ones, are the title."""
    left_out: tuple[str, ...] = ()
    """Ingredient lines of which no word is known, and what passed the limits: for notes."""
    lines: tuple[int, ...] = ()
    """Positions of the ingredient lines that `ingredients` were read from; an end has none."""
    texts: tuple[Ids, ...] = ()
    """What a text encoder reads: token ids (W,) of each of P texts, none empty."""
    text_fields: tuple[int, ...] = ()
    """The field of each text: `TITLE`, `INSTRUCTIONS` or `INGREDIENTS`."""
    texts_cut: int = 0
    """Texts that were longer than the text encoder reads."""


@dataclass(frozen=True)
class Tokenizer:
    """Turns recipes into ids, the same way in training, export and search.

    Safe to share between threads; it remembers the ids of lines that it has read.
    """

    vocabulary: Vocabulary
    """The words that have vectors."""
    config: TextConfig
    """What of a recipe is read."""
    text_tokenizer: TextTokenizer | None = None
    """Of the model's text encoder, where it has one."""

    def __call__(self, recipe: Recipe) -> RecipeIds:
        """Return the ids of a recipe's ingredients and sentences."""
        # `known` and `lines` run side by side: which line each ingredient was read from, for what
        # is shown. A line that names nothing known is noted, unless it is a section's head.
        known: list[int] = []
        lines: list[int] = []
        left_out: list[str] = []
        limit = self.config.max_ingredients - self.config.end_marker
        for position, line in enumerate(recipe.ingredients):
            number = self.ingredient_id(line)
            if number is not None and len(known) < limit:
                known.append(number)
                lines.append(position)
            elif self.config.reader == 1 or not ingredients.is_section_head(line):
                left_out.append(line)
        if self.config.end_marker or not known:
            known.append(END_ID)
        encoded, titles = self._fields(recipe) if self.reads_fields else self._sentences(recipe)
        return RecipeIds(
            np.array(known, dtype=np.int64),
            tuple(encoded[: self.config.max_sentences]),
            titles=min(titles, self.config.max_sentences),
            left_out=tuple(left_out),
            lines=tuple(lines),
            **self._texts(recipe),
        )

    @property
    def reads_fields(self) -> bool:
        """Return whether the last sentence is all words of the ingredient lines."""
        return self.config.unit == "field"

    def _sentences(self, recipe: Recipe) -> tuple[list[Ids], int]:
        """Return the word ids of each sentence, the title in front, and how often it stands."""
        encoded = [
            ids for text in sentences(recipe.instructions) if len(ids := self.sentence_ids(text))
        ]
        title = self.sentence_ids("" if self.config.title == "none" else recipe.title)
        titles = self._titles(len(encoded)) if len(title) else 0
        encoded[:0] = [title] * titles  # in front, where the limit cuts nothing off
        if not encoded:
            # Without a sentence there is no global vector: read the ingredient lines as one.
            ids = self.sentence_ids(", ".join(recipe.ingredients))
            encoded = [ids if len(ids) else np.array([END_ID], dtype=np.int64)]
        return encoded, titles

    def _fields(self, recipe: Recipe) -> tuple[list[Ids], int]:
        """Return the word ids of title, instructions and ingredient lines, each as one sentence.

        The last is there even where no word of it is known: its place says what it is.
        """
        title, steps, lines = (
            self.vocabulary.ids_of(words(text))[:LONGEST_FIELD]
            for text in (recipe.title, " ".join(recipe.instructions), " ".join(recipe.ingredients))
        )
        encoded = [ids for ids in (title, steps) if len(ids)]
        encoded.append(lines if len(lines) else np.array([END_ID], dtype=np.int64))
        return encoded, int(len(title) > 0)

    def _texts(self, recipe: Recipe) -> dict[str, Any]:
        """Return what a text encoder reads of a recipe, as fields of `RecipeIds`."""
        if self.text_tokenizer is None:
            return {}
        title = "" if self.config.title == "none" else recipe.title
        ingredients = ", ".join(recipe.ingredients)
        if self.config.encoder_reads == "line":
            parts = [(TITLE, ", ".join(part for part in (title, ingredients) if part.strip()))]
        else:
            most = self.config.max_sentences - bool(title.strip())
            steps = sentences(recipe.instructions)
            parts = [(TITLE, title), *((INSTRUCTIONS, text) for text in steps[:most])]
            parts.append((INGREDIENTS, ingredients))
        written = [(field, text) for field, text in parts if text.strip()] or [(TITLE, "")]
        ids = [self.text_tokenizer.ids(text) for _, text in written]
        return {
            "texts": tuple(one for one, _ in ids),
            "text_fields": tuple(field for field, _ in written),
            "texts_cut": sum(cut for _, cut in ids),
        }

    def _titles(self, instructions: int) -> int:
        """Return how often a title is read before so many instructions."""
        if self.config.title == "instruction":
            return 1
        return max(1, min(instructions, self.config.max_sentences // 2))

    def ingredient_id(self, line: str) -> int | None:
        """Return the id of the ingredient of a line like "2 cups flour, sifted", or None."""
        # Seven lines of ten stand in other recipes too, and finding a name takes longer than all
        # else that is read of a recipe. One look-up: another thread may empty it between two.
        number = self._lines.get(line, _UNREAD)
        if number == _UNREAD:
            rules = ingredients_1 if self.config.reader == 1 else ingredients
            phrase = rules.ingredient_phrase(line, self.vocabulary)
            number = None if phrase is None else self.vocabulary.id_of(phrase)
            if len(line) <= REMEMBERED_LENGTH:
                if len(self._lines) >= REMEMBERED_LINES:
                    self._lines.clear()
                self._lines[line] = number
        return number

    @cached_property
    def _lines(self) -> dict[str, int | None]:
        """Remember the ids of the ingredients of lines that were read."""
        return {}

    def sentence_ids(self, text: str) -> Ids:
        """Return the word ids of one sentence, cut to `max_words`."""
        return self.vocabulary.ids_of(words(text))[: self.config.max_words]

    def query(self, recipe: Recipe) -> RecipeIds:
        """Return the ids of a recipe that is a query.

        Raises:
            InputError: no word of it is known to the model, so that it would match at random.
        """
        encoded = self(recipe)
        if self.text_tokenizer is not None:
            known = self.text_tokenizer.specials.issuperset
            if not all(known(text.tolist()) for text in encoded.texts):
                return encoded
        if all(set(ids.tolist()) <= {END_ID} for ids in (encoded.ingredients, *encoded.sentences)):
            raise InputError(
                f"{recipe.id}: no word of this recipe is known to the model; "
                "write common English ingredient names"
            )
        return encoded
