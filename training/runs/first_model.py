"""Builds the model that a training begins with: a new one, or that of a run that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hficma.model import Model, build_model
from hficma.model.encoders.image.resolution import resolve_image_encoder
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.text.word_vectors import WordVectors

from ..config.options import Options
from ..text.pretrained_encoder import with_sentence_encoder, with_text_architecture
from ..text.text_vectors import word_vectors
from .run import RunDirectory

RANDOM = "random"
"""Value of `trunk.weights` for an image encoder of random weights, whatever its schedule."""


def with_image_encoder(options: Options) -> tuple[Options, str | Path | None]:
    """Return a new run's options with the architecture and input of their image encoder.

    Args:
        options: as a user gave them.

    Returns:
        the options, and the encoder's first weights as `build_model` takes them.

    Raises:
        InputError: the encoder's folder lacks a file, or is of a kind that is not known.
    """
    weights = None if options.trunk.weights == RANDOM else options.trunk.weights
    encoder = resolve_image_encoder(options.model.image, weights)
    model = replace(options.model, image=encoder.config)
    return replace(options, model=model), encoder.weights


def new_model(
    options: Options,
    recipes: Sequence[Recipe],
    weights: str | Path | None,
    device: torch.device,
    *,
    split_seed: int,
    cache: Path,
    progress: Progress,
) -> tuple[Options, Model]:
    """Return the model that a training begins with, and the options with what it came to.

    Args:
        options: of the run, its image encoder resolved.
        recipes: that are learnt from, whose words are the model's where no vectors are named.
        weights: of the image encoder, as `with_image_encoder` gives them.
        device: where it is trained.
        split_seed: draws the encoders' random weights; the run's own seed draws the heads'.
        cache: the workspace's cache folder.
        progress: receives stages and notes.

    Raises:
        InputError: an encoder's files are missing, damaged or of a kind that is not known.
    """
    vectors = word_vectors(
        options.text.vectors, recipes, dim=options.model.word_dim, seed=split_seed, cache=cache,
        progress=progress,
    )  # fmt: skip
    folder = options.model.text.encoder  # before its name alone is recorded
    options, text_tokenizer = with_text_architecture(options)
    if options.model.image.encoder == options.model.text.encoder:
        progress.note(
            f"{options.model.text.encoder}: its two towers get new heads, so that S_global begins "
            "at random and not as the model's own cosine, which a converted run keeps"
        )
    seed = options.trainer.seed
    model = build_model(
        options.model,
        vectors,
        backbone_weights=weights,
        text_tokenizer=text_tokenizer,
        text_weights=Path(folder) if folder else None,
        seed=split_seed,
        heads_seed=None if seed == split_seed else seed,
    )
    model = _on_device(model, device)
    return with_sentence_encoder(options, model, vectors, cache, progress), model


def saved_model(
    options: Options, directory: RunDirectory, weights: Mapping[str, Tensor], device: torch.device
) -> Model:
    """Return the model of a run that goes on.

    Args:
        options: as the run keeps them.
        directory: of the run.
        weights: of its last checkpoint.
        device: where it is trained.
    """
    vocabulary = directory.vocabulary
    # The checkpoint brings the vectors of the words too.
    table = np.zeros((vocabulary.table_rows, options.model.word_dim), dtype=np.float32)
    model = build_model(
        options.model, WordVectors(vocabulary, table), text_tokenizer=directory.text_tokenizer
    )
    model.load_state_dict(weights)
    return _on_device(model, device)


def _on_device(model: Model, device: torch.device) -> Model:
    """Move a model to where it is trained, its image encoder laid out as photos are."""
    model.to(device)
    # Photos come channels last; an image encoder laid out alike is a fifth faster on a CPU.
    model.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
