"""Folders of tiny random text encoders, as Hugging Face's libraries write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = "the a of olive oil flour soup tomato salt bake stir serve with and cup 2 350 , .".split()
SPECIAL = ["<pad>", "<s>", "<unk>", "</s>"]
END = 3
DUAL = ("clip", "siglip", "siglip2")
KINDS = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert", *DUAL)
SIZES: dict[str, Any] = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 16,
}


def transformers() -> Any:
    """The library, or a skip where it is not installed."""
    pytest.importorskip("transformers", reason="text encoders are built by transformers")
    from hficma.model.encoders.model_folder import import_transformers

    return import_transformers("a test")


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of a few words: `<s>` in front of a text and `</s>` behind it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", END)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def text_folder(folder: Path, kind: str, *, pooling: str = "mean") -> Path:
    """A tiny random text encoder; CLIP and SigLIP with their image towers."""
    library = transformers()
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}
    if kind == "clip":
        config = library.CLIPConfig(
            text_config={**SIZES, **special, "projection_dim": 12},
            vision_config={**VISION, "projection_dim": 12},
            projection_dim=12,
        )
        model = library.CLIPModel(config)
    elif kind in ("siglip", "siglip2"):
        name = {"siglip": "Siglip", "siglip2": "Siglip2"}[kind]
        grid = {"num_patches": 4} if kind == "siglip2" else {}
        config = getattr(library, f"{name}Config")(
            text_config={**SIZES, **special, "projection_size": 16},
            vision_config={**VISION, **grid},
        )
        model = getattr(library, f"{name}Model")(config)
    elif kind == "distilbert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
        model = library.DistilBertModel(
            library.DistilBertConfig(vocab_size=SIZES["vocab_size"], **sizes)
        )
    else:
        name = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "mpnet": "MPNet"}
        config = getattr(library, f"{name[kind]}Config")(**SIZES, **special)
        model = getattr(library, f"{name[kind]}Model")(config)
    for parameter in model.parameters():
        # Initial weights are so small that all texts come out alike.
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    if kind not in DUAL:
        modules = [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
        (folder / "modules.json").write_text(
            json.dumps([{"name": str(one["idx"]), **one} for one in modules])
        )
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
        (folder / "1_Pooling").mkdir()
        modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        modes = {name: mode == pooling for name, mode in modes.items()}
        (folder / "1_Pooling" / "config.json").write_text(
            json.dumps({"word_embedding_dimension": 16, **modes})
        )
        (folder / "2_Normalize").mkdir()
    return folder
