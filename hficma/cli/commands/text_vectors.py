"""`hficma vectors`: word and sentence vectors from any dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...printable import json_text, printable
from ...terminal import TextConsole, progress_bars
from ..help_text import command_group

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ...data.dataset import Dataset
    from ...recipe import Recipe

app = command_group("Word and sentence vectors, trained from any dataset.", no_args_is_help=True)

MAX_BAD_SHOWN = 10
"""Bad records told one by one."""

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
    seed: Annotated[int, typer.Option(help="Of the first vectors.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads; 1 repeats exactly.")] = 2,
    as_json: Json = False,
) -> None:
    """Train word2vec (skip-gram, hierarchical softmax) on the recipes held in for training.

    Example: hficma vectors words --data recipes.jsonl --out words
    """
    from hficma.training.text.word2vec import train_word_vectors

    from ...data import open_dataset

    _check_free(out)
    with _bar() as bar:
        dataset = open_dataset(data, on_bad=_BadLines(bar.console))
        reading = bar.add_task("reading", total=len(dataset))
        training = bar.add_task("training", total=epochs)
        vectors = train_word_vectors(
            _training_recipes(dataset, bar, reading),
            dim=dim,
            window=window,
            min_count=min_count,
            epochs=epochs,
            seed=seed,
            workers=workers,
            on_epoch=lambda epoch: bar.update(training, completed=epoch),
        )
    facts = {"data": dataset.name, "window": window, "epochs": epochs, "seed": seed}
    vectors.save(out, made_by="hficma vectors words", facts=facts)
    _tell(out, as_json, words=len(vectors.vocabulary), dim=vectors.dim)


@app.command("sentences")
def sentences_command(
    data: Data,
    vectors: Annotated[Path, typer.Option(help="The word vectors' directory.")],
    out: Out,
    dim: Annotated[int, typer.Option(min=1, help="Width: 256 for hf-icma-small.")] = 1024,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the recipes.")] = 3,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a sentence encoder over word vectors to tell a sentence's neighbours from others.

    Example: hficma vectors sentences --data recipes.jsonl --vectors words --out sentences --dim 256
    """
    from hficma.training.text.sentence_training import SentenceTraining, train_sentence_encoder

    from ...data import open_dataset
    from ...text.word_vectors import WordVectors

    _check_free(out)
    word_vectors = WordVectors.load(vectors)
    options = SentenceTraining(dim=dim, epochs=epochs, seed=seed)
    with _bar() as bar:
        dataset = open_dataset(data, on_bad=_BadLines(bar.console))
        reading = bar.add_task("reading", total=len(dataset))
        training = bar.add_task("training", total=None)

        def on_step(done: int, total: int, loss: float) -> None:
            bar.update(training, completed=done, total=total, description=f"loss {loss:.3f}")

        recipes = _training_recipes(dataset, bar, reading)
        encoder = train_sentence_encoder(recipes, word_vectors, options, on_step=on_step)
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    facts = {"data": dataset.name, "sentence_dim": dim, "epochs": epochs, "seed": seed}
    word_vectors.save(out, made_by="hficma vectors sentences", facts=facts, sentences=weights)
    _tell(out, as_json, words=len(word_vectors.vocabulary), dim=word_vectors.dim, sentence_dim=dim)


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
    _tell(out, False, words=len(vectors.vocabulary), dim=vectors.dim)


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


def _training_recipes(dataset: Dataset, bar: Progress, task: object) -> Iterator[Recipe]:
    from hficma.training.text.held_out import is_held_out

    for index in range(len(dataset)):
        recipe = dataset.recipe(index)
        bar.update(task, completed=index + 1)  # type: ignore[arg-type]
        if not is_held_out(recipe):
            yield recipe


def _check_free(out: Path) -> None:
    """Say that a directory is there already before the work, not after it."""
    from ...errors import ArtifactError

    if out.exists():
        raise ArtifactError(f"{out}: exists already; give another name or remove it first")


def _bar() -> Progress:
    return progress_bars(TextConsole(stderr=True))


def _tell(out: Path, as_json: bool, **facts: int) -> None:
    if as_json:
        typer.echo(json_text({"out": str(out), **facts}))
    else:
        counts = ", ".join(f"{key} {value}" for key, value in facts.items())
        typer.echo(printable(f"{out}: {counts}"))


class _BadLines:
    """Names the first records that are left out; a file may have thousands of them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._count = 0

    def __call__(self, message: str) -> None:
        self._count += 1
        if self._count <= MAX_BAD_SHOWN:
            self._console.print(f"left out: {message}", soft_wrap=True)
        elif self._count == MAX_BAD_SHOWN + 1:
            self._console.print("left out: more lines like these")
