"""Reads what text encoder a folder holds: a sentence-transformer, CLIP or SigLIP.

config.json                  sizes of the layers
model.safetensors            weights
tokenizer.json               words
tokenizer_config.json        the padding that SigLIP reads
modules.json, 1_Pooling/     a sentence-transformer's pooling, sentence_bert_config.json its
                             longest text
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...text.text_architecture import TextArchitecture
from ...text.text_tokenizer import TOKENIZER_BYTES, TextTokenizer
from .model_folder import CONFIG, NOT_LAYERS, read_model_json
from .text_encoder import text_config

TOKENIZER_FILE = "tokenizer.json"
_TRANSFORMERS = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert")
_DUAL = ("clip", "siglip", "siglip2")
_NOT_ARCHITECTURE = (
    *NOT_LAYERS, "use_cache", "gradient_checkpointing", "model_type", "is_decoder",
    "add_cross_attention", "tie_word_embeddings",
)  # fmt: skip
"""What of a configuration says nothing of an encoder's layers, or is recorded apart."""


def read_text_folder(folder: Path, *, most_tokens: int | None = None) -> TextTokenizer:
    """Read the architecture and the tokenizer of a text encoder's folder.

    Args:
        folder: of files as Hugging Face's libraries write them.
        most_tokens: cut texts to fewer tokens than the encoder takes; None: to its own most.

    Raises:
        InputError: a file is missing or damaged, or the encoder is of a kind that is not known.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; model.text.encoder takes a model's folder")
    config = read_model_json(folder, CONFIG)
    kind = config.get("model_type")
    if kind not in (*_TRANSFORMERS, *_DUAL):
        raise InputError(
            f"{folder}: holds the architecture {str(kind)[:40]!r}, which is no text encoder known "
            f"here; there are {', '.join((*_TRANSFORMERS, *_DUAL))}"
        )
    if not (folder / TOKENIZER_FILE).is_file():
        raise InputError(
            f"{folder}: has no {TOKENIZER_FILE}; transformers' AutoTokenizer writes one, by "
            "from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        reader = _dual if kind in _DUAL else _sentence_transformer
        architecture = reader(folder, kind, config, most_tokens)
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder}: its text encoder cannot be read ({error})") from error
    return TextTokenizer.load(folder / TOKENIZER_FILE, architecture)


def _sentence_transformer(
    folder: Path, kind: Any, config: Mapping[str, Any], most_tokens: int | None
) -> TextArchitecture:
    """Return the architecture of a sentence-transformer, or of a plain transformer as such."""
    pooling: Any = "mean"  # as sentence-transformers takes a folder that names none
    if (folder / "modules.json").is_file():
        for module in read_model_json(folder, "modules.json", list):
            name = str(module.get("type", "")).rpartition(".")[2]
            if name == "Pooling":
                pooling = _pooling(
                    read_model_json(folder, f"{module.get('path', '1_Pooling')}/config.json")
                )
            elif name not in ("Transformer", "Normalize"):
                raise ValueError(f"its module {name[:40]} is not known here")
    longest = config.get("max_position_embeddings", 512)
    if kind != "bert" and kind != "distilbert":
        longest -= 2  # positions begin behind the padding's
    if (folder / "sentence_bert_config.json").is_file():
        most = read_model_json(folder, "sentence_bert_config.json").get("max_seq_length")
        longest = min(longest, most or longest)
    return TextArchitecture(
        model_type=kind,
        config=_settings(config),
        pooling=pooling,
        longest=min(longest, most_tokens or longest),
    )


def _pooling(config: Mapping[str, Any]) -> Any:
    """Return the pooling of a sentence-transformer's module, in either form that it has had."""
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [
            name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for name, value in config.items()
            if name.startswith("pooling_mode_") and value is True
        ]
    modes = [modes] if isinstance(modes, str) else list(modes)
    names = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
    if len(modes) != 1 or modes[0] not in names:
        raise ValueError(f"its pooling {', '.join(map(str, modes))[:60]} is not known here")
    return names[modes[0]]


def _dual(
    folder: Path, kind: Any, config: Mapping[str, Any], most_tokens: int | None
) -> TextArchitecture:
    """Return the architecture of the text tower of CLIP or SigLIP."""
    # Files of early versions leave out what is at its default: the library knows the defaults.
    settings = _settings(text_config(kind, config))
    if kind == "clip" and "projection_dim" in config:
        settings["projection_dim"] = config["projection_dim"]
    longest = settings["max_position_embeddings"]
    if kind == "clip":
        return TextArchitecture(
            model_type=kind,
            config=settings,
            pooling="last",
            longest=min(longest, most_tokens or longest),
        )
    # SigLIP's texts have all the tokens that there is room for: its positions are trained so.
    return TextArchitecture(
        model_type=kind,
        config=settings,
        pooling="last",
        longest=longest,
        pad=_pad(folder, settings.get("pad_token_id", 1)),
        case="lower" if kind == "siglip2" or _is_siglip2(folder) else "lower-words",
    )


def _is_siglip2(folder: Path) -> bool:
    """Return whether a folder of SigLIP's layers has SigLIP 2's words, which are Gemma's."""
    path = folder / "tokenizer_config.json"
    name = read_model_json(folder, path.name).get("tokenizer_class", "") if path.is_file() else ""
    return "Gemma" in str(name) or "Siglip2" in str(name)


def _pad(folder: Path, default: int) -> int:
    """Return the id of the padding that a folder's tokenizer names."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return default
    config = read_model_json(folder, path.name)
    if config.get("padding_side", "right") != "right":
        raise ValueError("its texts are padded in front, which is not known here")
    token = config.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    content = read_model_json(folder, TOKENIZER_FILE, limit=TOKENIZER_BYTES)
    for added in content.get("added_tokens", ()):
        if added.get("content") == token:
            return int(added["id"])
    return default


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of an encoder's layers: numbers, texts and flags."""
    return {
        name: value
        for name, value in config.items()
        if name not in _NOT_ARCHITECTURE
        and not name.startswith("_")
        and isinstance(value, int | float | str | bool)
    }
