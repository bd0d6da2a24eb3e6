"""The pretrained encoders of texts and of sentences that a run starts from, read once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hficma.model import Model
from hficma.model.encoders.text_folder import read_text_folder
from hficma.progress import Progress
from hficma.text.text_tokenizer import TextTokenizer
from hficma.text.word_vectors import WordVectors

from ..config.options import Options
from .text_vectors import pretrain_sentence_encoder


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
    # Fused with the ingredients, sentences are of one kind: the text encoder's.
    sentence = model.sentence if model.global_text == "fields" else "none"
    return replace(options, model=replace(model, sentence=sentence, text=text)), tokenizer


def with_sentence_encoder(
    options: Options, model: Model, vectors: WordVectors, cache: Path, progress: Progress
) -> Options:
    """Give the model the sentence encoder of its source; without one it is trained with the rest.

    Recipes train an encoder of their own only where it is to stay as it is: one that is trained
    with the rest anyway need not wait for it.

    Returns:
        the options, with `text.tune_sentences` on where there is no encoder to start from.
    """
    text = options.text
    if options.model.sentence != "gru":
        return options
    source = text.vectors
    if source is not None and text.tune_sentences and Path(source).is_file():
        source = None
    if source is not None and pretrain_sentence_encoder(
        source, model, vectors, cache=cache, progress=progress
    ):
        return options
    if not text.tune_sentences:
        progress.note("text.vectors holds no trained sentence encoder: it is trained with the rest")
    return replace(options, text=replace(text, tune_sentences=True))
