"""Word vectors and sentence encoder that a run starts from: read, or trained and cached."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from hficma.artifacts.content_digests import code_digest, file_digests
from hficma.artifacts.manifest import MANIFEST
from hficma.errors import ArtifactError, InputError
from hficma.model import Model
from hficma.progress import Progress
from hficma.recipe import Recipe, read_jsonl
from hficma.text.word_vectors import SENTENCES, WordVectors, read_tensors

from .sentence_training import SentenceTraining, train_sentence_encoder
from .word2vec import train_word_vectors

PASSES = 10
"""Epochs of word2vec over the recipes, as published."""

_READING = (
    "hficma.text.in*",  # inflection, ingredients
    "hficma.text.vocabulary",
    "hficma.text.words",
    "hficma.recipe",
    "hficma.training.text.word2vec",
    "hficma.training.text.sentence_training",
    "hficma.model.encoders.sentence_encoder",
)

READ = 200_000
"""Recipes read in all epochs together: a large corpus needs fewer of them to say the same."""


def word_vectors(
    source: str | None,
    recipes: Sequence[Recipe],
    *,
    dim: int,
    seed: int,
    cache: Path,
    progress: Progress,
) -> WordVectors:
    """Return the word vectors that a run starts from.

    Args:
        source: a vectors directory, a JSONL file of recipes to train on, or None: the training
            recipes themselves.
        recipes: the training recipes.
        dim: their width, `model.word_dim`.
        seed: of vectors trained on the training recipes.
        cache: the workspace's cache folder, where vectors that are trained here are stored.
        progress: receives stages, steps and notes.

    Raises:
        InputError: the vectors have another width, or there is nothing at `source`.
    """
    if source is None:
        return _trained(_content_key(recipes, dim, seed), recipes, dim, seed, cache, progress)
    path = Path(source)
    if (path / MANIFEST).is_file():
        vectors = WordVectors.load(path)
        if vectors.dim != dim:
            raise InputError(
                f"{path}: its vectors are {vectors.dim} wide; give model.word_dim={vectors.dim}"
            )
        return vectors
    if not path.is_file():
        raise InputError(f"{path}: text.vectors takes a directory of vectors or a JSONL file")
    # The same vectors for every seed of the rest: they take longer than it does.
    return _trained(f"{_file_key(path, cache)}-{dim}", read_jsonl(path), dim, 0, cache, progress)


def pretrain_sentence_encoder(
    source: str, model: Model, vectors: WordVectors, *, cache: Path, progress: Progress
) -> bool:
    """Give the model the sentence encoder of a source.

    Args:
        source: a vectors directory, or a JSONL file of recipes to train an encoder on.
        model: whose `sentence_encoder` is a GRU over the same words.
        vectors: what an encoder that is trained here starts from.
        cache: the workspace's cache folder, where vectors that are trained here are stored.
        progress: receives stages, steps and notes.

    Returns:
        False where the source is a directory without one.

    Raises:
        ArtifactError: the encoder there does not fit the model's.
    """
    path = Path(source)
    if path.is_file():
        path = _trained_sentences(path, model, vectors, cache, progress)
    path = path / SENTENCES
    if not path.is_file():
        return False
    tensors = {name: torch.from_numpy(value) for name, value in read_tensors(path).items()}
    try:
        assert model.sentence_encoder is not None
        model.sentence_encoder.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ArtifactError(
            f"{path}: does not fit the model's sentence encoder ({reason})"
        ) from error
    return True


def _trained_sentences(
    file: Path, model: Model, vectors: WordVectors, cache: Path, progress: Progress
) -> Path:
    """Return the vectors directory with the encoder trained on a file, trained now if missing."""
    width = model.sentence_width
    path = cache / "vectors" / f"{_file_key(file, cache)}-{vectors.dim}-{width}"
    if (path / MANIFEST).is_file():
        return path

    def on_step(done: int, steps: int, _: float) -> None:
        if done == 1:
            progress.stage("sentence vectors", steps)
        progress.advance()

    encoder = train_sentence_encoder(
        read_jsonl(file), vectors, SentenceTraining(dim=width), on_step=on_step
    )
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    shutil.rmtree(path, ignore_errors=True)
    vectors.save(path, made_by="hficma train", sentences=weights)
    return path


def _trained(
    key: str, recipes: Iterable[Recipe], dim: int, seed: int, cache: Path, progress: Progress
) -> WordVectors:
    """Return the word vectors of that key from the cache, trained now if missing."""
    path = cache / "vectors" / key
    if (path / MANIFEST).is_file():
        return WordVectors.load(path)
    if not isinstance(recipes, Sequence):
        recipes = list(recipes)
    passes = max(1, min(PASSES, READ // max(1, len(recipes))))
    progress.stage("word vectors", passes)
    # One worker: gensim's threads race, and the same seed would give other vectors.
    vectors = train_word_vectors(
        recipes, dim=dim, epochs=passes, seed=seed, workers=1, on_epoch=lambda _: progress.advance()
    )
    shutil.rmtree(path, ignore_errors=True)
    vectors.save(path, made_by="hficma train")
    return vectors


def _file_key(path: Path, cache: Path) -> str:
    """Return a name that changes with a file of recipes and with the code that reads it."""
    (content,) = file_digests([path], cache)
    return hashlib.sha256(f"{content} {_reading()}".encode()).hexdigest()[:16]


def _content_key(recipes: Sequence[Recipe], dim: int, seed: int) -> str:
    """Return a name that changes with recipes' text, the options, and the code that reads it."""
    digest = hashlib.sha256(_reading().encode())
    for recipe in recipes:
        content = [recipe.title, recipe.ingredients, recipe.instructions]
        digest.update(json.dumps(content).encode())
    return f"{digest.hexdigest()[:16]}-{dim}-{seed}"


def _reading() -> str:
    """Return a digest of the code that makes words of recipes: other words need other vectors."""
    return code_digest(*_READING, packages=("gensim",))
