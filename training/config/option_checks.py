"""Checks of options that must fit each other, before any work begins."""

from __future__ import annotations

from hficma.errors import InputError

from .options import Options


def check_image_encoder(options: Options) -> None:
    """Check that the image encoder has weights or is trained.

    One that stays at random weights, or begins so, shows the rest of the model nothing.

    Raises:
        InputError: it has neither; says where to get weights.
    """
    if options.trunk.weights is not None or options.trunk.schedule == "tuned":
        return
    name = options.model.image.encoder
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
