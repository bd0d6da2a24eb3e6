"""Classifiers of torchvision without their heads. Alone in importing torchvision."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from ....errors import InputError, MissingDependencyError
from .weights_file import load_weights_file

TORCHVISION = "torchvision"
"""Value of `weights` that downloads torchvision's own."""

_HEADS = ("fc.", "classifier.")
_stubs: list[torch.library.Library] = []


def torchvision_encoder(name: str, weights: str | Path | None) -> nn.Module:
    """Build a classifier of torchvision by name, and take its head off.

    Args:
        name: such as `resnet50`.
        weights: a file of its weights in torchvision's names (`.safetensors`, `.pth`),
            `torchvision` to download them, or None for random ones.

    Returns:
        (B, 3, s, s) to a map (B, C, h, w).

    Raises:
        InputError: no such classifier, or the weights do not fit.
    """
    classifier = _classifier(name, download=str(weights) == TORCHVISION)
    if weights is not None and str(weights) != TORCHVISION:
        load_weights_file(classifier, Path(weights), name, optional=_HEADS)
    return _without_head(classifier)


def has_torchvision_model(name: str) -> bool:
    """Return whether torchvision has a classifier of this name."""
    models = import_torchvision().models
    return name in models.list_models(models)


def _classifier(name: str, *, download: bool) -> nn.Module:
    """Build a classifier of torchvision by name, with torchvision's weights or random ones."""
    models = import_torchvision().models
    if name not in models.list_models(models):
        raise InputError(
            f"image encoder {name}: torchvision has no such classifier; "
            "take tiny, mobilenet_v2, resnet50 or resnet101"
        )
    if not download:
        classifier: nn.Module = models.get_model(name, weights=None)
        return classifier
    file = models.get_model_weights(name).DEFAULT.url.rsplit("/", 1)[-1]
    try:
        classifier = models.get_model(name, weights="DEFAULT")
    except OSError as error:
        raise InputError(
            f"image encoder {name}: {file} cannot be downloaded here; bring that file and give "
            f"trunk.weights=PATH/{file}"
        ) from error
    return classifier


def _without_head(classifier: nn.Module) -> nn.Module:
    """Return the convolutional layers of a classifier, in their order."""
    features = getattr(classifier, "features", None)
    if isinstance(features, nn.Module):
        return features
    heads = ("avgpool", "fc", "classifier", "heads")
    return nn.Sequential(
        OrderedDict(
            (name, child) for name, child in classifier.named_children() if name not in heads
        )
    )


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its compiled part does not fit the installed torch.

    The registry's torchvision is a CUDA build; beside a CPU torch its import fails because the
    schemas of two operators are missing. Models need neither, so defining the schemas is enough.
    Where torchvision is whole, defining them would fail ("registered multiple times").

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import torchvision
    except ImportError as error:
        raise MissingDependencyError(
            "torchvision", "train", "an image encoder of torchvision"
        ) from error
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _stubs.append(library)  # the schemas live as long as this object
        import torchvision
    module: ModuleType = torchvision
    return module
