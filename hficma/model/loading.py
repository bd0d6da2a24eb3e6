"""Build a model from its options, or open the one that a run trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..artifacts.json_fields import Fields
from ..artifacts.manifest import MANIFEST, Manifest, read_manifest, verified_file
from ..errors import ArtifactError, InputError, MissingDependencyError
from ..text.text_tokenizer import TextTokenizer, text_tokenizer
from ..text.vocabulary import FIRST_WORD_ID, VOCABULARY_FILE, Tokenizer, Vocabulary
from ..text.word_vectors import WordVectors
from .adamine import AdaMine
from .base import Encoders, Model
from .config import ModelConfig
from .dual import DualEncoder
from .encoders.image.image_encoder import make_image_encoder
from .encoders.image.resolution import resolve_image_encoder
from .encoders.sentence_encoder import GRUSentences, MeanSentences, SentenceEncoder, word_weights
from .encoders.text_encoder import TextEncoder
from .hf_icma import HFICMA

_KINDS: dict[str, type[Model]] = {
    "hf-icma": HFICMA,
    "adamine": AdaMine,
    "dual": DualEncoder,
}

BUNDLE_WEIGHTS = "model.safetensors"
"""The weights' name in a bundle; a run names its own in the manifest."""


def build_model(
    config: ModelConfig,
    vectors: WordVectors,
    *,
    backbone_weights: str | Path | None = None,
    text_tokenizer: TextTokenizer | None = None,
    text_weights: Path | None = None,
    seed: int = 0,
    heads_seed: int | None = None,
) -> Model:
    """Build a new model: word vectors and image encoder as they come, all else from `seed`.

    Args:
        config: sizes and choices; `word_dim` must be the vectors' width.
        vectors: vocabulary and table.
        backbone_weights: see `hficma.model.encoders.image.resolution.resolve_image_encoder`.
        text_tokenizer: of the text encoder, where `config.text` has one.
        text_weights: the folder of its weights; None for random ones.
        seed: of the random weights; the caller's random state is left as it was.
        heads_seed: of those that come after the encoders; None: `seed` draws them too.
    """
    if vectors.dim != config.word_dim:
        raise ValueError(f"word vectors are {vectors.dim} wide, word_dim is {config.word_dim}")
    image, backbone_weights = resolve_image_encoder(config.image, backbone_weights)
    config = replace(config, image=image)
    # Forked, so that building a model does not shift what the caller draws next.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assemble(
            config,
            Tokenizer(vectors.vocabulary, config.text, text_tokenizer),
            torch.from_numpy(vectors.table),
            backbone_weights,
            text_weights,
            heads_seed,
        )


def load_model(path: str | Path, *, weights: str = "best") -> Model:
    """Open the model of a run, in evaluation mode on the CPU.

    Args:
        path: a run directory (or a bundle, which carries the same weights).
        weights: `best` or `last`, of a run.

    Raises:
        ArtifactError: no run or bundle there, or a file in it was changed.
    """
    directory = Path(path)
    kind = "bundle" if (directory / "onnx").is_dir() else "run"
    manifest = read_manifest(directory, kind=kind)
    if kind == "bundle" and BUNDLE_WEIGHTS not in manifest.files:
        raise ArtifactError(
            f"{directory}: is a slim bundle, without torch weights; take the run, or the bundle "
            "that it was made from"
        )
    name = BUNDLE_WEIGHTS if kind == "bundle" else _checkpoint(directory, manifest, weights)
    file = verified_file(directory, manifest, name)
    vocabulary = Vocabulary.load(verified_file(directory, manifest, VOCABULARY_FILE))
    try:
        config = ModelConfig.from_json(manifest.facts["model"])
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{directory}: its {MANIFEST} is damaged ({error})") from error
    tokenizer = Tokenizer(
        vocabulary, config.text, text_tokenizer(config.text.text_architecture, directory, manifest)
    )
    state = _load_file(file)
    _check_fit(config, tokenizer, state, file)
    table = torch.zeros(vocabulary.table_rows, config.word_dim)
    model = _assemble(config, tokenizer, table, None)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _check_fit(
    config: ModelConfig, tokenizer: Tokenizer, state: Mapping[str, Tensor], file: Path
) -> None:
    """Refuse weights that are not of a model of these options, before memory is taken for it."""
    # Shapes without numbers: options that ask for terabytes are refused like any that do not fit.
    with torch.device("meta"):
        table = torch.empty(tokenizer.vocabulary.table_rows, config.word_dim)
        try:
            expected = _assemble(config, tokenizer, table, None).state_dict()
        except (RuntimeError, ValueError, OverflowError, InputError) as error:  # of no model
            raise ArtifactError(f"{file}: does not fit the run's options ({error})") from error
    differing = expected.keys() ^ state.keys() or {
        name for name, value in expected.items() if value.shape != state[name].shape
    }
    if differing:
        raise ArtifactError(f"{file}: does not fit the run's options ({min(differing)} differs)")


def _checkpoint(directory: Path, manifest: Manifest, weights: str) -> str:
    """Return the name of a run's file of `best` or `last` weights."""
    record: Any = manifest.facts.get(weights)
    if not record:
        raise ArtifactError(f"{directory}: has no {weights} weights yet; train it further")
    try:
        return Fields(record, weights).text("file")
    except ValueError as error:
        raise ArtifactError(f"{directory}: its {MANIFEST} is damaged ({error})") from error


def _load_file(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, by name."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError("safetensors", "train", "opening a model") from error
    try:
        state: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{file}: is no weights file ({error})") from error
    return state


def _assemble(
    config: ModelConfig,
    tokenizer: Tokenizer,
    table: Tensor,
    backbone_weights: str | Path | None,
    text_weights: Path | None = None,
    heads_seed: int | None = None,
) -> Model:
    """Put a model together; `table` (V + 2, D_w) are the word vectors that it starts from."""
    counts = torch.tensor([0] * FIRST_WORD_ID + list(tokenizer.vocabulary.counts))
    sentence_encoder: SentenceEncoder | None = None
    if config.sentence == "mean":
        sentence_encoder = MeanSentences(table, word_weights(counts))
    elif config.sentence == "gru":
        sentence_encoder = GRUSentences(table, config.sentence_dim)
    image_encoder = make_image_encoder(config.image, backbone_weights)
    pooled = image_encoder.pooled_width
    fused = config.kind == "hf-icma" and config.global_text == "fused"
    if fused and config.global_dim is None and pooled != 2 * config.width:
        raise InputError(
            f"image encoder {config.image.encoder}: its global vector is {pooled} wide, a "
            f"recipe's {2 * config.width}; give model.global_dim, such as 256, to bring both to "
            "one width"
        )
    architecture, text_encoder = config.text.text_architecture, None
    if architecture is not None:
        text_encoder = TextEncoder(architecture, text_weights)
    if heads_seed is not None:
        torch.manual_seed(heads_seed)
    encoders = Encoders(image_encoder, sentence_encoder, text_encoder, table)
    return _KINDS[config.kind](config, tokenizer, encoders)
