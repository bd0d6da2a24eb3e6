"""Makes a run of CLIP or SigLIP as they come: S is their own cosine of photo and text, untrained.

photo ──▶ image tower ──▶ (CLIP: visual_projection) ──▶ unit vector
"title, ingredients" ──▶ text tower ──────────────────▶ unit vector
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hficma.errors import ArtifactError, InputError
from hficma.model import DualEncoder, HeadConfig, ImageConfig, Model, ModelConfig, build_model
from hficma.model.encoders.image.resolution import resolve_image_encoder
from hficma.model.encoders.image.transformers_models import clip_visual_projection
from hficma.model.encoders.text_folder import read_text_folder
from hficma.text.text_tokenizer import TextTokenizer
from hficma.text.vocabulary import FIRST_WORD_ID, TextConfig, Vocabulary
from hficma.text.word_vectors import WordVectors

from ..config.option_values import to_tree
from ..config.options import Options
from .environment import environment
from .run import RunDirectory


@dataclass(frozen=True)
class ConvertedDual:
    """The outcome of `convert_dual`."""

    kind: str
    """`clip`, `siglip` or `siglip2`."""
    global_dim: int
    """D_g of its vectors."""
    tokens: int
    """Tokens that are read of a recipe's title and ingredients; those past them are cut off."""


def convert_dual(folder: Path, out: Path) -> ConvertedDual:
    """Write a run that holds the two towers of a folder.

    Args:
        folder: of a CLIP or SigLIP, as Hugging Face's libraries write it.
        out: the run directory to write.

    Raises:
        InputError: the folder holds neither, or lacks a file.
        ArtifactError: `out` exists or cannot be written.
    """
    if out.exists():
        raise ArtifactError(f"{out}: exists already; give another name")
    tokenizer = read_text_folder(folder)
    kind = tokenizer.architecture.model_type
    if kind not in ("clip", "siglip", "siglip2"):
        raise InputError(
            f"{folder}: holds {kind}, which reads texts alone; hficma train takes it as "
            "model.text.encoder"
        )
    model = _model(folder, tokenizer)
    run = RunDirectory.create(
        out,
        made_by="hficma convert",
        options=to_tree(replace(Options(), model=model.config)),
        environment=environment(torch.device("cpu")),
        vocabulary=model.tokenizer.vocabulary,
        text_tokenizer=tokenizer,
        facts={
            "model": model.config.to_json(),
            "converted_from": folder.resolve().name,
            "dataset": None,
            "best": None,
            "last": None,
        },
    )
    run.save_converted(model.state_dict())
    return ConvertedDual(kind, model.global_dim, tokenizer.architecture.longest)


def _model(folder: Path, tokenizer: TextTokenizer) -> Model:
    """Return the dual encoder of a folder, with its weights."""
    architecture = tokenizer.architecture
    image, weights = resolve_image_encoder(ImageConfig(encoder=str(folder.resolve())), None)
    # CLIP's projection of photos is a layer of the whole model; its towers end before it, and
    # SigLIP's in vectors of one space.
    projects = architecture.model_type == "clip"
    config = ModelConfig(
        kind="dual",
        image=image,
        word_dim=1,
        sentence="none",
        global_text="fields",
        global_similarity="cosine",
        global_dim=architecture.width if projects else None,
        image_head=HeadConfig(layers="projection" if projects else "none"),
        recipe_head=HeadConfig(layers="none"),
        text=TextConfig(
            encoder=folder.resolve().name,
            architecture=architecture.to_text(),
            encoder_reads="line",
        ),
    )
    no_words = WordVectors(Vocabulary((), ()), np.zeros((FIRST_WORD_ID, 1), dtype=np.float32))
    model = build_model(
        config, no_words, backbone_weights=weights, text_tokenizer=tokenizer, text_weights=folder
    )
    assert isinstance(model, DualEncoder)
    if projects:
        weight = clip_visual_projection(folder)
        model.image_global.load_state_dict({"layers.0.weight": weight})
    return model.eval()
