"""Converts checkpoints of the two published systems into runs of this project.

HF-ICMA's `model_e*.pth.tar` and AdaMine's `ckpt_*_model.pth.tar` are read by `torch.load` with
`weights_only`, in a process of its own; every weight must find its place, or the checkpoint is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hficma.data.sources.recipe1m.published_vocabulary import published_vectors, published_words
from hficma.errors import InputError
from hficma.model import ImageConfig, ModelConfig, build_model
from hficma.model.encoders.sentence_encoder import GRUSentences
from hficma.text.vocabulary import FIRST_WORD_ID, TextConfig, Vocabulary
from hficma.text.word2vec_files import read_word2vec
from hficma.text.word_vectors import SENTENCES, WordVectors, read_tensors
from hficma.types import Array
from hficma.untrusted.torch_checkpoints import load_weights

from .config.option_values import to_tree
from .config.options import Options
from .runs.environment import environment
from .runs.run import RunDirectory

Names = list[tuple[str, str]]
"""Pattern of a published weight's name, and what it is called here."""
Kind = Literal["hf-icma", "adamine"]

# What a Sequential of a ResNet's children calls its parts.
_RESNET_PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")

_HF_ICMA: Names = [
    (r"visual_embedding\.0\.(.*)", r"joint_embedding.linear.\1"),
    (r"ingRNN_\.rnn\.(.*_l0)", r"ingredient_gru.ahead.\1"),
    (r"ingRNN_\.rnn\.(.*_l0)_reverse", r"ingredient_gru.back.\1"),
    (r"ingRNN_\.embs\.weight", "ingredient_words.weight"),
    # In a recipe's fusion their "img" is our sentences, their "txt" our ingredients.
    (r"crosattn\.img_key_fc\.(.*)", r"recipe_fusion.sentence_key.\1"),
    (r"crosattn\.txt_key_fc\.(.*)", r"recipe_fusion.ingredient_key.\1"),
    (r"crossgatefusion\.img_key_fc\.(.*)", r"cross_fusion.image_key.\1"),
    (r"crossgatefusion\.txt_key_fc\.(.*)", r"cross_fusion.recipe_key.\1"),
    (r"crossgatefusion\.mhattention\.linears1\.(.*)", r"cross_fusion.attention_query.\1"),
    (r"crossgatefusion\.mhattention\.linears2\.(.*)", r"cross_fusion.attention_key.\1"),
    (r"crossgatefusion\.mhattention\.linears3\.(.*)", r"cross_fusion.attention_value.\1"),
    (r"crossgatefusion\.mhattention\.linears4\.(.*)", r"cross_fusion.attention_output.\1"),
    (r"crossgatefusion\.fc_1\.0\.(.*)", r"cross_fusion.image_fuse.\1"),
    (r"crossgatefusion\.fc_2\.0\.(.*)", r"cross_fusion.recipe_fuse.\1"),
    (r"crossgatefusion\.fc_out\.0\.(.*)", r"cross_fusion.match_hidden.\1"),
    (r"crossgatefusion\.fc_out\.3\.(.*)", r"cross_fusion.match_output.\1"),
    (r"visionMLP\.([a-z]\w*\..*)", r"trunk.\1"),
    *((rf"visionMLP\.{i}\.(.*)", rf"trunk.{part}.\1") for i, part in enumerate(_RESNET_PARTS)),
]
_ADAMINE: Names = [
    (r"image_embedding\.convnet\.resnet\.(.*)", r"trunk.\1"),
    (r"image_embedding\.fc\.(.*)", r"image_embedding.\1"),
    (r"recipe_embedding\.emb_ingrs\.weight", "ingredient_words.weight"),
    (r"recipe_embedding\.rnn_ingrs\.(.*_l0)", r"ingredient_lstm.ahead.\1"),
    (r"recipe_embedding\.rnn_ingrs\.(.*_l0)_reverse", r"ingredient_lstm.back.\1"),
    (r"recipe_embedding\.rnn_instrs\.(.*)", r"sentence_lstm.\1"),
    (r"recipe_embedding\.fc\.(.*)", r"recipe_embedding.\1"),
]
_WORDS = "ingredient_words.weight"


@dataclass(frozen=True)
class Converted:
    """The outcome of `convert`."""

    kind: Kind
    """Which system's checkpoint it was."""
    words: int
    """Words of its vocabulary."""
    sentence_encoder: str
    """Where the sentence encoder's weights are from, or `untrained`."""


def convert(
    checkpoint: Path,
    out: Path,
    *,
    vocabulary: Path,
    keep_off_by_two: bool = True,
    sentences: Path | None = None,
    backbone: str = "resnet50",
) -> Converted:
    """Write a run that holds a published checkpoint's weights.

    The released loaders give word i the id i + 2 and read row i + 2 of a table whose row i was
    made for it. Training adapted the table to that, so its rows are kept where they are; the
    two rarest words, for which the table has no row, get zeros.

    Args:
        checkpoint: HF-ICMA's `model_e*.pth.tar` or AdaMine's `ckpt_*_model.pth.tar`.
        out: the run directory to write.
        vocabulary: the words it was trained with: a folder or file of `vocab.txt`, `vocab.bin`
            or `vocab.pkl`.
        keep_off_by_two: False moves the table's rows to the words that they were made for, for
            a checkpoint trained on corrected ids.
        sentences: a vectors directory with a sentence encoder, in place of the skip-instruction
            encoder that was never published; without one the run's is untrained.
        backbone: the torchvision classifier that the image encoder is.

    Raises:
        InputError: the checkpoint is of neither system, or a weight has no place.
        ArtifactError: `out` exists or cannot be written, or `sentences` is no vectors directory.
    """
    state = _state_dict(checkpoint)
    kind: Kind = "hf-icma" if any(name.startswith("ingRNN_") for name in state) else "adamine"
    renamed = _renamed(state, _HF_ICMA if kind == "hf-icma" else _ADAMINE, checkpoint)
    words = _vocabulary(vocabulary)
    renamed[_WORDS] = _shifted(renamed[_WORDS], len(words), keep_off_by_two, checkpoint)
    config = _config(kind, renamed, backbone)
    table = np.zeros((words.table_rows, config.word_dim), dtype=np.float32)
    model = build_model(config, WordVectors(words, table))
    source = "untrained" if sentences is None else str(sentences)
    if sentences is not None:
        # It reads the same ids, so it must have been trained with the same vocabulary.
        model.sentence_encoder = _sentence_encoder(sentences, words, config.sentence_dim)
    encoder = {k: v for k, v in model.state_dict().items() if k.startswith("sentence_encoder.")}
    try:
        model.load_state_dict({**encoder, **_tensors(renamed)})
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise InputError(f"{checkpoint}: does not fit {kind} with {backbone} ({reason})") from error
    run = RunDirectory.create(
        out,
        made_by="hficma convert",
        options=to_tree(replace(Options(), model=config)),
        environment=environment(torch.device("cpu")),
        vocabulary=words,
        facts={
            "model": config.to_json(),
            "converted_from": checkpoint.name,
            "keep_off_by_two": keep_off_by_two,
            "sentence_encoder": source,
            "dataset": None,
            "best": None,
            "last": None,
        },
    )
    run.save_converted(model.state_dict())
    return Converted(kind, len(words), source)


def _state_dict(path: Path) -> dict[str, Array]:
    """Return a checkpoint's weights by their published names."""
    # `module.` is what DataParallel put into the names.
    return {name.replace("module.", ""): array for name, array in load_weights(path).items()}


def _renamed(state: Mapping[str, Array], names: Names, path: Path) -> dict[str, Array]:
    """Return weights by our names; refuse any that has none."""
    renamed: dict[str, Array] = {}
    for name, array in state.items():
        # Classifiers have no part in retrieval.
        if name.startswith("linear_classif.") or ".last_linear." in name:
            continue
        candidates = (
            match.expand(ours)
            for theirs, ours in names
            if (match := re.fullmatch(theirs, name)) is not None
        )
        ours = next(candidates, None)
        if ours is None:
            raise InputError(f"{path}: {name} is no weight of HF-ICMA's or AdaMine's")
        renamed[ours] = array
    if _WORDS not in renamed:
        raise InputError(f"{path}: is no checkpoint of HF-ICMA or AdaMine; it embeds no words")
    return renamed


def _vocabulary(path: Path) -> Vocabulary:
    """Return the words that a checkpoint was trained with, from any of the published files."""
    if path.is_file() and path.suffix == ".bin":
        return read_word2vec(path).vocabulary
    root = path if path.is_dir() else path.parent
    vectors = None if path.name == "vocab.txt" else published_vectors(root)
    if vectors is not None:
        return vectors.vocabulary
    words = published_words(root).words
    return Vocabulary(words, tuple(range(len(words), 0, -1)))


def _shifted(table: Array, words: int, keep: bool, path: Path) -> Array:
    """Return a published table of word vectors with a row for each of our V + 2 ids.

        id      stands for    with `keep`               without, from a table of V rows
        0       padding       zeros                     zeros
        1       end marker    row 1                     zeros
        i + 2   word i        row i + 2, made for       row i, made for word i
                              word i + 2, or zeros

    Args:
        table: V or V + 2 rows.
        words: V.
        keep: rows stay where training read them, though they were made for other words.
        path: the checkpoint, for messages.
    """
    rows = words + FIRST_WORD_ID
    if len(table) not in (words, rows):
        raise InputError(
            f"{path}: embeds {len(table)} words, the vocabulary has {words}; give its own"
        )
    fitted = np.zeros((rows, table.shape[1]), dtype=np.float32)
    if len(table) == rows or keep:
        fitted[: len(table)] = table
    else:
        fitted[FIRST_WORD_ID:] = table
    fitted[0] = 0  # the padding
    return fitted


def _config(kind: Kind, weights: Mapping[str, Array], backbone: str) -> ModelConfig:
    """Return the sizes as the weights have them."""
    try:
        if kind == "hf-icma":
            width, double = weights["joint_embedding.linear.weight"].shape
            return ModelConfig(
                kind=kind,
                width=width,
                image=ImageConfig(encoder=backbone),
                word_dim=weights[_WORDS].shape[1],
                sentence="gru",
                sentence_dim=double // 2,
                text=TextConfig(title="none", end_marker=True),
            )
        return ModelConfig(
            kind=kind,
            width=weights["image_embedding.weight"].shape[0],
            image=ImageConfig(encoder=backbone),
            word_dim=weights[_WORDS].shape[1],
            sentence="gru",
            sentence_dim=weights["sentence_lstm.weight_hh_l0"].shape[1],
            ingredient_width=weights["ingredient_lstm.ahead.weight_hh_l0"].shape[1],
            text=TextConfig(title="none", end_marker=True),
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"the checkpoint lacks {error}; is it whole?") from error


def _sentence_encoder(path: Path, words: Vocabulary, dim: int) -> GRUSentences:
    """Return the sentence encoder of a vectors directory, where it reads the same words."""
    vectors = WordVectors.load(path)
    if vectors.vocabulary.words != words.words:
        raise InputError(f"{path}: its vocabulary is another than the checkpoint's")
    if not (path / SENTENCES).is_file():
        raise InputError(f"{path}: holds no sentence encoder; `hficma vectors sentences` makes one")
    encoder = GRUSentences(torch.from_numpy(vectors.table), dim)
    try:
        encoder.load_state_dict(_tensors(read_tensors(path / SENTENCES)))
    except RuntimeError as error:
        raise InputError(f"{path}: its sentence vectors are not {dim} wide") from error
    return encoder


def _tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
