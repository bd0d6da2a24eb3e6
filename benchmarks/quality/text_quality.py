"""`hficma bench text_quality`: how good the text side is.

Ingredients: accuracy on lines labelled by hand. Sentences, on recipes held out of training: the
next instruction among those of 1,000 recipes, and a recipe's own title among 1,000 from the
mean of its instructions; the trained encoder against the frequency-weighted mean of word
vectors (Arora et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from hficma.artifacts.manifest import read_manifest
from hficma.data import open_dataset
from hficma.errors import InputError
from hficma.model.encoders.sentence_encoder import GRUSentences, MeanSentences, word_weights
from hficma.recipe import Recipe
from hficma.terminal import TextConsole
from hficma.text.ingredients import ingredient_name
from hficma.text.vocabulary import FIRST_WORD_ID, TextConfig, Tokenizer
from hficma.text.word_vectors import SENTENCES, WordVectors, read_tensors
from hficma.text.words import sentences
from hficma.training.text.held_out import is_held_out
from hficma.training.text.sentence_training import encode_sentences
from hficma.types import Ids

from ..common.arguments import JsonFile
from ..common.report import print_markdown, write_json
from ..common.timing import environment
from ..pages import quality_tables
from .bootstrap import figures_of
from .cca import unit

LABELLED = Path(__file__).parent / "labelled"
LINES = (
    "ingredient_lines.tsv",
    "ingredient_lines_unseen.tsv",
    "ingredient_lines_drawn.tsv",
    "ingredient_lines_drawn_unseen.tsv",
)
CANDIDATES = 1000
SEED = 1234

Tasks = dict[str, dict[str, float]]


def read_labelled(path: Path) -> list[tuple[str, list[str]]]:
    """Read lines and their right names; `#` begins a comment, `/` parts equally right names."""
    rows = path.read_text(encoding="utf-8").splitlines()
    split = (row.split("\t") for row in rows if not row.startswith("#"))
    return [(line, label.split("/")) for line, label in split]


def ingredient_accuracy(labelled: Sequence[tuple[str, list[str]]]) -> float:
    """Return the percentage of lines whose ingredient is named as labelled, word for word."""
    right = [(" ".join(ingredient_name(line)) or "-") in labels for line, labels in labelled]
    return float(100 * np.mean(right))


def held_out_recipes(data: str, tokenizer: Tokenizer) -> list[Recipe]:
    """Return the first recipes held out of training that have a title and two known sentences.

    Raises:
        InputError: fewer than two are there.
    """
    dataset = open_dataset(data)
    usable = (
        recipe
        for recipe in map(dataset.recipe, range(len(dataset)))
        if is_held_out(recipe)
        and len(tokenizer.sentence_ids(recipe.title))
        and len(_steps(recipe, tokenizer)) > 1
    )
    recipes = list(islice(usable, CANDIDATES))
    if len(recipes) < 2:
        raise InputError(f"{data}: too few recipes are held out to measure anything")
    return recipes


def sentence_tasks(encoder: Any, recipes: Sequence[Recipe], tokenizer: Tokenizer) -> Tasks:
    """Measure next-instruction retrieval and recall of a recipe's own title.

    Args:
        encoder: a `SentenceEncoder`.
        recipes: N recipes that it was not trained on.
        tokenizer: over its vocabulary.
    """
    generator = np.random.default_rng(SEED)
    steps = [_steps(recipe, tokenizer) for recipe in recipes]
    titles = [tokenizer.sentence_ids(recipe.title) for recipe in recipes]
    lengths = np.array([len(one) for one in steps])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    vectors = unit(encode_sentences(encoder, [ids for one in steps for ids in one]))
    # One step of each recipe, never its last: the query, whose next step is to be found.
    drawn = starts + generator.integers(0, lengths - 1)
    whole = unit(np.add.reduceat(vectors, starts))
    title = unit(encode_sentences(encoder, titles))
    scores = {
        "next instruction": vectors[drawn] @ vectors[drawn + 1].T,
        "own title": whole @ title.T,
    }
    return {task: figures_of(table) for task, table in scores.items()}


def measure(data: str | None, vectors: Path | None) -> dict[str, Any]:
    """Return all figures, as JSON values; those of sentences with `data` and `vectors` only."""
    report: dict[str, Any] = {"environment": environment(), "ingredients": {}}
    for name in LINES:
        labelled = read_labelled(LABELLED / name)
        accuracy = ingredient_accuracy(labelled)
        report["ingredients"][name] = {"lines": len(labelled), "accuracy": accuracy}
    if data is not None and vectors is not None:
        report["sentences"] = _measure_sentences(data, vectors)
    return report


def main(
    data: Annotated[str | None, typer.Option(help="Recipes to measure vectors on.")] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="What `hficma vectors sentences` wrote.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Ingredients found in labelled lines; with --data and --vectors, what sentence vectors know.

    Example: hficma bench text_quality
    """
    if (data is None) != (vectors is None):
        raise InputError("--data and --vectors belong together")
    report = measure(data, vectors)
    console = TextConsole()
    for name, row in report["ingredients"].items():
        console.print_line(f"{name}: {row['accuracy']:.1f} % of {row['lines']} lines")
    if "sentences" in report:
        print_markdown("\n".join(quality_tables.text_quality(report)))
    write_json(json_file, report)


def _measure_sentences(data: str, path: Path) -> dict[str, Any]:
    """Measure the encoders of a folder of vectors: means of words, and the trained one if there."""
    vectors = WordVectors.load(path)
    tokenizer = Tokenizer(vectors.vocabulary, TextConfig())
    table = torch.from_numpy(vectors.table)
    counts = torch.tensor([0] * FIRST_WORD_ID + list(vectors.vocabulary.counts))
    encoders: dict[str, Any] = {"weighted mean": MeanSentences(table, word_weights(counts))}
    if (path / SENTENCES).is_file():
        facts = read_manifest(path, kind="vectors").facts
        trained = GRUSentences(table, int(facts["sentence_dim"]))
        weights = read_tensors(path / SENTENCES)
        trained.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        encoders[f"GRU, {trained.width}-d"] = trained
    recipes = held_out_recipes(data, tokenizer)
    tasks = {name: sentence_tasks(e, recipes, tokenizer) for name, e in encoders.items()}
    return {"candidates": len(recipes), "encoders": tasks}


def _steps(recipe: Recipe, tokenizer: Tokenizer) -> list[Ids]:
    encoded = (tokenizer.sentence_ids(text) for text in sentences(recipe.instructions))
    return [ids for ids in encoded if len(ids)]


if __name__ == "__main__":
    typer.run(main)
