"""Image encoders: photos in, features of 7 x 7 regions out. Alone in importing torchvision."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ...errors import InputError, MissingDependencyError
from ...images import CROP
from ...untrusted.torch_checkpoints import load_weights
from ..config import REGION_GRID

TORCHVISION = "torchvision"
"""Value of `weights` that downloads torchvision's own."""

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_stubs: list[torch.library.Library] = []


class Normalize(nn.Module):
    """Brings uint8 photos to ImageNet's mean and deviation, channels first."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            scaled = 255 * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, scaled, persistent=False)

    def forward(self, photos: Tensor) -> Tensor:
        """Map photos (B, 224, 224, 3), uint8, to normalised floats (B, 3, 224, 224)."""
        # Cast first: TensorRT takes uint8 as an input, but only casts can read it.
        pixels = photos.to(self.mean.dtype, copy=True).permute(0, 3, 1, 2)
        # In place: 38 MB less to write, twice, for 64 photos.
        return pixels.sub_(self.mean).div_(self.deviation)


class _Residual(nn.Module):
    """Two convolutions and the input added (He et al., CVPR 2016), (B, C, h, w) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = torch.relu(features + self.convolutions(features))
        return result


def tiny_image_encoder() -> tuple[nn.Module, int]:
    """Build a small residual network that trains from random weights on a CPU, and its channels."""

    def halve(inputs: int, outputs: int, size: int = 3, stride: int = 2) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    encoder = nn.Sequential(
        *halve(3, 24, size=7, stride=4),
        *halve(24, 48),
        *halve(48, 96),
        _Residual(96),
        *halve(96, 192),
        _Residual(192),
    )
    return encoder, 192


def make_image_encoder(backbone: str, weights: str | Path | None = None) -> tuple[nn.Module, int]:
    """Build an image encoder by name, and return it with its number of channels.

    Args:
        backbone: `tiny`, or a torchvision classifier such as `resnet50`.
        weights: a file of the classifier's weights in torchvision's names (`.safetensors`,
            `.pth`), `torchvision` to download them, or None for random ones.

    Returns:
        a module from normalised photos (B, 3, 224, 224) to features (B, C, 7, 7), and C.

    Raises:
        InputError: no such backbone, it has other than 7 x 7 regions, or the weights do not fit.
    """
    if backbone == "tiny":
        if weights is not None:
            raise InputError("backbone tiny has no weights to load; it is trained from random")
        return tiny_image_encoder()
    classifier = _classifier(backbone, download=str(weights) == TORCHVISION)
    if weights is not None and str(weights) != TORCHVISION:
        _load_classifier(classifier, Path(weights), backbone)
    encoder = _without_head(classifier)
    with torch.no_grad():
        try:
            shape = encoder.eval()(torch.zeros(1, 3, CROP, CROP)).shape
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"backbone {backbone}: is no convolutional network") from error
    if len(shape) != 4 or tuple(shape[2:]) != (REGION_GRID, REGION_GRID):
        raise InputError(
            f"backbone {backbone}: ends at {tuple(shape[1:])}, not at "
            f"{REGION_GRID} x {REGION_GRID} regions; take resnet50 or mobilenet_v2"
        )
    return encoder.train(), shape[1]


def _classifier(backbone: str, *, download: bool) -> nn.Module:
    """Build a classifier of torchvision by name, with torchvision's weights or random ones."""
    models = _torchvision().models
    if backbone not in models.list_models(models):
        raise InputError(
            f"backbone {backbone}: torchvision has no such classifier; "
            "take tiny, mobilenet_v2, resnet50 or resnet101"
        )
    if not download:
        classifier: nn.Module = models.get_model(backbone, weights=None)
        return classifier
    file = models.get_model_weights(backbone).DEFAULT.url.rsplit("/", 1)[-1]
    try:
        classifier = models.get_model(backbone, weights="DEFAULT")
    except OSError as error:
        raise InputError(
            f"backbone {backbone}: {file} cannot be downloaded here; bring that file and give "
            f"trunk.weights=PATH/{file}"
        ) from error
    return classifier


def _load_classifier(classifier: nn.Module, path: Path, backbone: str) -> None:
    """Load a weights file into a classifier; the file may lack the head, which is not used."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; trunk.weights takes a weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = {name: torch.from_numpy(array) for name, array in load_weights(path).items()}
        missing, unexpected = classifier.load_state_dict(state, strict=False)
    except InputError:
        raise
    except Exception as error:  # every reader has its own kinds; all mean the same to a user
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: are no weights of {backbone} ({reason})") from error
    heads = ("fc.", "classifier.", "num_batches_tracked")
    lacking = [name for name in missing if not any(head in name for head in heads)]
    if lacking or unexpected:
        name = (lacking + list(unexpected))[0]
        problem = "lacks" if lacking else "has an unexpected"
        raise InputError(f"{path}: are no weights of {backbone} ({problem} {name})")


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


def _torchvision() -> ModuleType:
    """Import torchvision, also where its compiled part does not fit the installed torch.

    The registry's torchvision is a CUDA build; beside a CPU torch its import fails because the
    schemas of two operators are missing. Models need neither, so defining the schemas is enough.
    Where torchvision is whole, defining them would fail ("registered multiple times").
    """
    try:
        import torchvision
    except ImportError as error:
        raise MissingDependencyError("torchvision", "train", "a torchvision backbone") from error
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
