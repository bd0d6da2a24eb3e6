"""`hficma vectors`: trains, reads and writes word vectors and sentence encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...artifacts.manifest import check_free
from ...printable import json_text, printable
from ..console import Bars
from ..help_text import command_group

if TYPE_CHECKING:
    from ...data.dataset import Dataset
    from ...recipe import Recipe

app = command_group("Word and sentence vectors, trained from any dataset.", no_args_is_help=True)

# Options that several of the commands have.
Data = Annotated[str, typer.Option(help="A JSONL file, a dataset directory, or sample:N.")]
Out = Annotated[Path, typer.Option(help="The vectors directory to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("words")
def words_command(
    data: Data,
    out: Out,
    dim: Annotated[int, typer.Option(min=1, help="Width of a vector.")] = 300,
    window: Annotated[int, typer.Option(min=1, help="Words to either side.")] = 10,
    min_count: Annotated[int, typer.Option(min=1, help="Leave out rarer words.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the first vectors.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads; 1 repeats exactly.")] = 2,
    as_json: Json = False,
) -> None:
    """Train word2vec (skip-gram, hierarchical softmax) on the recipes that are not held out.

    Of 73,000 recipes that takes about two minutes.

    Example: hficma vectors words --data recipes.jsonl --out words
    """
    from hficma.training.text.word2vec import train_word_vectors

    from ...data import open_dataset

    check_free(out)
    with Bars() as bars:
        dataset = open_dataset(data, on_bad=bars.bad)
        vectors = train_word_vectors(
            _training_recipes(dataset, bars, lambda: bars.stage("training", epochs)),
            dim=dim,
            window=window,
            min_count=min_count,
            epochs=epochs,
            seed=seed,
            workers=workers,
            on_epoch=lambda _: bars.advance(),
        )
    facts = {"data": dataset.name, "window": window, "epochs": epochs, "seed": seed}
    vectors.save(out, made_by="hficma vectors words", facts=facts)
    _print_facts(out, as_json, words=len(vectors.vocabulary), dim=vectors.dim)


@app.command("sentences")
def sentences_command(
    data: Data,
    vectors: Annotated[Path, typer.Option(help="The word vectors' directory.")],
    out: Out,
    dim: Annotated[int, typer.Option(min=1, help="Width: 256 for hf-icma-small.")] = 1024,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the recipes.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a sentence encoder over word vectors to tell a sentence's neighbours from others.

    Of 73,000 recipes that takes about twenty minutes.

    Example: hficma vectors sentences --data recipes.jsonl --vectors words --out sentences --dim 256
    """
    from hficma.training.text.sentence_training import SentenceTraining, train_sentence_encoder

    from ...data import open_dataset
    from ...text.word_vectors import WordVectors

    check_free(out)
    word_vectors = WordVectors.load(vectors)
    options = SentenceTraining(dim=dim, epochs=epochs, seed=seed)
    with Bars() as bars:
        dataset = open_dataset(data, on_bad=bars.bad)
        recipes = _training_recipes(dataset, bars, lambda: bars.stage("training"))
        encoder = train_sentence_encoder(
            recipes, word_vectors, options, on_step=lambda done, steps, _: bars.at(done, steps)
        )
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    facts = {"data": dataset.name, "sentence_dim": dim, "epochs": epochs, "seed": seed}
    word_vectors.save(out, made_by="hficma vectors sentences", facts=facts, sentences=weights)
    _print_facts(
        out, as_json, words=len(word_vectors.vocabulary), dim=word_vectors.dim, sentence_dim=dim
    )


@app.command("encoder")
def encoder_command(
    folder: Annotated[Path, typer.Argument(help="A sentence-transformer's folder.")],
    vectors: Annotated[Path, typer.Option(help="The word vectors' directory.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Set what a text encoder says of each word beside its vector; search needs no encoder then.

    Example: hficma vectors encoder all-MiniLM-L6-v2 --vectors words --out both
    """
    from hficma.training.text.encoder_words import with_encoder_words

    from ...text.word_vectors import WordVectors

    check_free(out)
    words = WordVectors.load(vectors)
    with Bars() as bars:
        bars.stage("words", len(words.vocabulary))
        both = with_encoder_words(words, folder, on_batch=bars.advance)
    facts = {"data": str(vectors), "text_encoder": folder.name}
    both.save(out, made_by="hficma vectors encoder", facts=facts)
    _print_facts(out, as_json, words=len(both.vocabulary), dim=both.dim)


@app.command("read")
def read_command(
    file: Annotated[Path, typer.Argument(help="word2vec's binary or text format.")], out: Out
) -> None:
    """Take word vectors that others trained: the original tool's or gensim's word2vec files.

    Example: hficma vectors read vocab.bin --out words
    """
    from ...text.word2vec_files import read_word2vec

    vectors = read_word2vec(file)
    vectors.save(out, made_by="hficma vectors read", facts={"data": str(file)})
    _print_facts(out, False, words=len(vectors.vocabulary), dim=vectors.dim)


@app.command("write")
def write_command(
    vectors: Annotated[Path, typer.Argument(help="A vectors directory.")],
    file: Annotated[Path, typer.Argument(help="Where to.")],
    text: Annotated[bool, typer.Option(help="The text format instead of the binary.")] = False,
) -> None:
    """Write word vectors as word2vec's file, which gensim and the original tools read.

    Example: hficma vectors write words vocab.bin
    """
    from ...text.word2vec_files import write_word2vec
    from ...text.word_vectors import WordVectors

    write_word2vec(WordVectors.load(vectors), file, binary=not text)


def _training_recipes(dataset: Dataset, bars: Bars, on_end: Callable[[], None]) -> Iterator[Recipe]:
    """Yield the recipes that are not held out; call `on_end` when all are read."""
    from hficma.training.text.held_out import is_held_out

    bars.stage("reading", len(dataset))
    for index in range(len(dataset)):
        recipe = dataset.recipe(index)
        bars.advance()
        if not is_held_out(recipe):
            yield recipe
    on_end()


def _print_facts(out: Path, as_json: bool, **facts: int) -> None:
    """Print the numbers of what was written, as JSON or in a line."""
    if as_json:
        typer.echo(json_text({"out": str(out), **facts}))
    else:
        counts = ", ".join(f"{key} {value}" for key, value in facts.items())
        typer.echo(printable(f"{out}: {counts}"))
