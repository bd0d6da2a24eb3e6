"""The pretrained text encoder that a run starts from: read of its folder, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hficma.model.encoders.text_folder import read_text_folder
from hficma.text.text_tokenizer import TextTokenizer

from ..config.options import Options


def with_text_architecture(options: Options) -> tuple[Options, TextTokenizer | None]:
    """Return a new run's options with the architecture of their text encoder, and its tokenizer.

    Args:
        options: as a user gave them.

    Raises:
        InputError: the folder holds no text encoder that is known here.
    """
    text = options.model.text
    if not text.encoder:
        return options, None
    tokenizer = read_text_folder(Path(text.encoder), most_tokens=text.encoder_tokens or None)
    # Another user has no such folder: what is recorded is its name alone.
    text = replace(
        text, encoder=Path(text.encoder).name, architecture=tokenizer.architecture.to_text()
    )
    model = options.model
    if model.global_text != "fields":
        # Fused with the ingredients, sentences are of one kind: the text encoder's.
        model = replace(model, sentence="none", text=replace(text, architecture=""))
    return replace(options, model=replace(model, text=text)), tokenizer
