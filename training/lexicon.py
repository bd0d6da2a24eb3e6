"""The word vectors that a run starts from: given, or trained here and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from hficma.artifact import MANIFEST
from hficma.errors import ArtifactError, InputError
from hficma.model import Model
from hficma.progress import Progress
from hficma.recipe import Recipe, read_jsonl
from hficma.training.words import train_word_vectors
from hficma.vectors import SENTENCES, WordVectors, read_tensors

PASSES = 10
"""Epochs of word2vec over the recipes, as published."""

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
    """Vectors of the given width.

    Args:
        source: a vectors directory, a JSONL file of recipes to train on, or None: the training
            recipes themselves.
        recipes: the training recipes.
        dim: width, `model.word_dim`.
        seed: of the first vectors.
        cache: the workspace's cache folder; what is trained here is kept there by its content.
        progress: told of the work.

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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _trained(f"{digest[:16]}-{dim}-{seed}", read_jsonl(path), dim, seed, cache, progress)


def load_sentence_encoder(source: str | None, model: Model) -> bool:
    """Give the model the sentence encoder kept beside the word vectors; False where none is.

    Raises:
        ArtifactError: the encoder there does not fit the model's.
    """
    path = Path(source or "") / SENTENCES
    if source is None or not path.is_file():
        return False
    tensors = {name: torch.from_numpy(value) for name, value in read_tensors(path).items()}
    try:
        model.sentence_encoder.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ArtifactError(
            f"{path}: does not fit the model's sentence encoder ({reason})"
        ) from error
    return True


def _trained(
    key: str, recipes: Iterable[Recipe], dim: int, seed: int, cache: Path, progress: Progress
) -> WordVectors:
    path = cache / "vectors" / key
    if (path / MANIFEST).is_file():
        return WordVectors.load(path)
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


def _content_key(recipes: Sequence[Recipe], dim: int, seed: int) -> str:
    digest = hashlib.sha256()
    for recipe in recipes:
        content = [recipe.title, recipe.ingredients, recipe.instructions]
        digest.update(json.dumps(content).encode())
    return f"{digest.hexdigest()[:16]}-{dim}-{seed}"
