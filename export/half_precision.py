"""Rounds an image encoder to half precision so that what tells photos apart is kept.

S_global compares regions that are averaged, and the averages of two photos are mostly alike: the
part that tells them apart is small, and an error that moves all regions at once shows in S. What
rounds so, measured on MobileNetV2 with ImageNet weights behind a trained `best` (largest change of
S_global, as a share of its spread; the tolerance is 5e-3):

* Weights that nearly cancel. Neighbouring pixels are alike, so a filter that looks for edges
  multiplies nine equal numbers by weights that sum to about 0; rounded each by itself, they sum to
  something else. Everything rounded so: 2.7e-2, most of it from the first depthwise layer.
* The stem: all layers behind it see what it loses. What runs at half of the photo's size, in
  float32, with everything behind it as before: 8.5e-3. It holds a thousandth of the weights.
* Biases: their errors are the same in every photo and every region, and no mean removes them.

So the stem stays wide, and each layer behind it is rounded as a whole: its bias first, moved by
what the layers before it have lost on average, then weight by weight, each making good what the
ones before it did to the outputs: 4e-3, and 2.3e-3 on real photos, in the same bytes.

How much of an encoder is stem, S_global itself says. Scores of random weights lie close together,
and the same error is more of their spread: AdaMine over a ResNet-50 of random weights is off by
4.3e-3 behind a stem down to an eighth of the photo's size, by 2.1e-3 down to a sixteenth, which
holds 30 % of the weights. So the stem grows until scores of photos hold that nothing was rounded
on.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hficma.engine.runtimes.reference import TOLERANCES
from hficma.model import Model
from hficma.model.encoders.image.efficientnet_lite import StagedNetwork
from hficma.model.encoders.image.features import ImageFeatures, image_features

from .calibration_items import CalibrationItems, adversarial_items

PHOTOS = 8
"""Photos that layers are rounded on: at 7 x 7 regions they still give 400 positions."""
JUDGES = 8
"""Photos beside those that a stem is chosen by: layers fit what they were rounded on."""
ENOUGH = TOLERANCES["fp16"] / 2
"""Largest change of S_global, as a share of its spread, at which a stem grows no further: other
photos move further than these few, and the recipes' branch adds its own."""
STEM_SHARES = (2, 4, 8, 16)
"""Shares of the photo's side down to which layers belong to the stem, the narrowest stem first."""
MOST_STEM_SHARE = 1 / 3
"""Share of the weights that a grown stem may hold: a narrow graph is there to be small."""
SAMPLES = 20_000
"""Positions that count at most: many times the inputs of any filter that sees so many."""
BLOCK = 128
"""Weights that are rounded before those behind them are brought up to date: a product in place
of as many outer products over all of them."""
MOST_INPUTS = 2304
"""Weights of a filter that are rounded together at most, 3 x 3 of 256 channels: the work grows
with their cube, and in a sum of more the errors cancel; only its bias is corrected."""
DAMPING = 1e-3
"""Share of the inputs' mean square that each is taken to have beside its own: an input that these
photos never showed gets no arbitrary weight."""

_log = logging.getLogger("hficma")


class NarrowImageEncoder(nn.Module):
    """An image encoder in half precision behind a stem, its first layers, in float32.

    Args:
        stem: first layers, float32.
        rest: the others, in `dtype`.
        dtype: of the features that come out.
    """

    def __init__(self, stem: nn.Module, rest: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.stem = stem
        self.rest = rest
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor | ImageFeatures:
        """Map normalised float32 pixels (B, 3, s, s) to what the encoder gives, in `dtype`."""
        features: Tensor | ImageFeatures = self.rest(self.stem(pixels).to(self.dtype))
        return features


@torch.no_grad()
def narrow_image_encoder(
    model: Model, items: CalibrationItems, dtype: torch.dtype
) -> NarrowImageEncoder:
    """Round the image encoder of a model by what that does to photos.

    Args:
        model: in evaluation mode, on the CPU; is not changed.
        items: at least `PHOTOS + JUDGES` photos, and recipes that they are compared with.
        dtype: to round to.
    """
    pixels = model.normalize(torch.from_numpy(items.photos[:PHOTOS]))
    extremes = adversarial_items(model, seed=1).photos
    judges = model.normalize(torch.from_numpy(np.concatenate([items.photos[PHOTOS:], extremes])))
    recipes = model.recipe_tokens(model.recipe_batch(items.recipes)).global_
    wide = _scores(model, model.trunk, judges, recipes)
    best, best_share = None, math.inf  # and how far S_global moves, as a share of its spread
    # Layers fit the photos that they were rounded on, so that others judge: calibration photos and
    # the extremes. The narrowest stem is tried first, and a wider one only where scores need it.
    for share_of_side in STEM_SHARES:
        size = model.image_input.size // share_of_side
        stem, rest = _split(copy.deepcopy(model.trunk), pixels, size)
        if best is not None and _weights(stem) > MOST_STEM_SHARE * _weights(model.trunk):
            break
        rest = _folded(rest)
        _round_layers(rest, stem(pixels), dtype)
        candidate = NarrowImageEncoder(stem, rest.to(dtype), dtype).eval().requires_grad_(False)
        change = _scores(model, candidate, judges, recipes) - wide
        share = float(change.abs().max() / wide.std())
        _log.info("fp16: stem down to %d pixels moves S_global by %.1e of its spread", size, share)
        if best is None or share < best_share:
            best, best_share = candidate, share
        if best_share <= ENOUGH:
            break
    assert best is not None
    return best


def _scores(model: Model, encoder: nn.Module, pixels: Tensor, recipes: Tensor) -> Tensor:
    """Compute S_global (B, M) of photos through an encoder and recipes' global vectors (M, D_g)."""
    # Everything behind the encoder is wide here: its own loss has nothing to do with the stem.
    pooled, regions = image_features(encoder, pixels)
    assert regions is not None
    features = ImageFeatures(pooled.float(), regions.float())
    scores: Tensor = model.image_tokens(features).global_ @ recipes.mT
    return scores


def _weights(module: nn.Module) -> int:
    """Count the weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _split(encoder: nn.Module, pixels: Tensor, size: int) -> tuple[nn.Module, nn.Module]:
    """Cut an encoder behind its layers of at least `size` pixels a side: stem and rest."""
    if not isinstance(encoder, nn.Sequential):
        return nn.Identity(), encoder
    # A stage whose mean is given beside the last map belongs to what gives it, the rest.
    ends = encoder.ends if isinstance(encoder, StagedNetwork) else {}
    layers = list(encoder.named_children())
    stem, features = 0, pixels[:1]
    for name, layer in layers:
        features = layer(features)
        if features.shape[-1] < size or name in ends:
            break
        stem += 1
    rest = OrderedDict(layers[stem:])
    return (
        nn.Sequential(OrderedDict(layers[:stem])),
        StagedNetwork(rest, ends) if ends else nn.Sequential(rest),
    )


def _folded(encoder: nn.Module) -> nn.Module:
    """Multiply batch normalisations into the convolutions before them, in float64.

    Left apart, a channel's mean would be rounded before it is subtracted.
    """
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in encoder.modules()):
        return encoder
    from torch.fx.experimental.optimization import fuse

    try:
        folded: nn.Module = fuse(encoder.double()).float()
    except Exception as error:  # whatever an encoder's own Python does while it is traced
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        _log.warning("fp16: batch normalisations stay apart from their convolutions (%s)", reason)
        return encoder.float()
    return folded


def _round_layers(encoder: nn.Module, features: Tensor, dtype: torch.dtype) -> None:
    """Round the convolutions of an encoder in place, one after the other as `features` pass.

    The first pass notes what each layer gives. In the second, each is rounded just before it runs,
    on inputs that come from layers already rounded, and held to its output of the first pass: so it
    makes good what was lost before it as well.

    Args:
        encoder: layers in float32, batch normalisations folded.
        features: (B, C, h, w) that it reads.
        dtype: to round to.
    """
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    targets: dict[nn.Module, Tensor] = {}

    def note_output(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        targets[layer] = output.clone()  # activations behind it work in place

    def round_before_it_runs(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        assert isinstance(layer, nn.Conv2d)
        narrow = inputs[0].to(dtype).float()  # activations are rounded too
        _round_layer(layer, narrow, targets.pop(layer), dtype)
        return (narrow,)

    hooks = [layer.register_forward_hook(note_output) for layer in layers]
    encoder(features)
    for hook in hooks:
        hook.remove()
    hooks = [layer.register_forward_pre_hook(round_before_it_runs) for layer in layers]
    encoder(features)
    for hook in hooks:
        hook.remove()


def _round_layer(layer: nn.Conv2d, inputs: Tensor, target: Tensor, dtype: torch.dtype) -> None:
    """Round weights and bias so that the layer gives `target` for `inputs`.

    A convolution of g groups is g linear maps of what its kernel sees at each of P positions:

        filters (g, O / g, 1 + I)   times   samples (g, 1 + I, P)   is about   outputs (g, O / g, P)

    where I = C / g * kernel height * kernel width, and the 1 is the bias: the weight of an input
    that is always 1.

    Args:
        layer: C to O channels.
        inputs: (B, C, h, w).
        target: (B, O, h', w'), what the layer gave before anything was rounded.
        dtype: to round to.
    """
    groups = layer.groups
    samples = _patches(layer, inputs)
    outputs = target.transpose(0, 1).flatten(1).unflatten(0, (groups, -1))
    step = max(1, samples.shape[2] // SAMPLES)
    samples, outputs = samples[:, :, ::step].double(), outputs[:, :, ::step].double()
    samples = torch.cat([samples.new_ones(groups, 1, samples.shape[2]), samples], dim=1)
    bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
    filters = torch.cat([bias[:, None], layer.weight.flatten(1)], dim=1).double()
    filters = filters.unflatten(0, (groups, -1))
    # The bias takes up what inputs that are off by now change on average.
    filters[..., 0] += (outputs - filters @ samples).mean(dim=2)
    if filters.shape[2] <= MOST_INPUTS + 1:
        moments = samples @ samples.mT / samples.shape[2]
        filters = _round_together(filters, moments, dtype)
    rounded = filters.to(dtype).float().flatten(0, 1)
    layer.weight.data = rounded[:, 1:].reshape_as(layer.weight)
    layer.bias = nn.Parameter(rounded[:, 0], requires_grad=False)


def _patches(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Lay out what a layer reads at each of P positions of its output: (g, I, P)."""
    if layer.kernel_size == (1, 1):
        rows, columns = layer.stride
        patches = inputs[:, :, ::rows, ::columns].flatten(2)
    else:
        padding = 0 if layer.padding == "valid" else layer.padding
        assert not isinstance(padding, str)
        patches = F.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
    flat = patches.transpose(0, 1).flatten(1)  # (B, g I, h w) -> (g I, B h w)
    return flat.view(layer.groups, -1, flat.shape[1])


def _round_together(filters: Tensor, moments: Tensor, dtype: torch.dtype) -> Tensor:
    """Round filters so that E[((rounded - filter) · x)²] is small, not each weight's own error.

    Weights are rounded one after the other. When weight i is off by e, the best that those behind
    it can do is to move by -e U[i, j] / U[i, i], where Uᵀ U = moments⁻¹ and U is upper triangular:
    row i of U regresses input i on the inputs behind it, those before being fixed. This is the
    optimal brain surgeon's step (Hassibi and Stork, NIPS 1992) in the order of GPTQ (Frantar et
    al., ICLR 2023, equations 2 to 5 and algorithm 1), which rounds to integers so.

    Args:
        filters: (g, O / g, n) float64.
        moments: E[x xᵀ] (g, n, n) of the inputs, float64.
        dtype: to round to.

    Returns:
        (g, O / g, n) in `dtype`.
    """
    size = moments.shape[-1]
    # Strong inputs first: the last weights have no one left to correct them.
    power = moments.diagonal(dim1=1, dim2=2)
    order = power.argsort(dim=1, descending=True)
    moments = moments.gather(1, order[:, :, None].expand_as(moments))
    moments = moments.gather(2, order[:, None, :].expand_as(moments))
    filters = filters.gather(2, order[:, None, :].expand_as(filters))
    # Damped, so that the inverse exists (GPTQ, step 3); the constant is for inputs that are 0
    # throughout, as those of a dead filter are.
    damping = DAMPING * power.mean(dim=1) + 1e-12
    damped = moments + damping[:, None, None] * torch.eye(size, dtype=moments.dtype)
    # All the inverses that the steps need are in one triangle: the inverse over the weights from i
    # on, after those before are eliminated, has U[i, i:] as its first row (times U[i, i]).
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    rounded = torch.empty_like(filters, dtype=dtype)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        errors = torch.zeros_like(filters[..., start:end])
        # Within the block each weight's error is passed on at once ...
        for i in range(start, end):
            rounded[..., i] = filters[..., i].to(dtype)
            error = (filters[..., i] - rounded[..., i]) / upper[:, i, i, None]
            filters[..., i:end] -= error[..., None] * upper[:, None, i, i:end]
            errors[..., i - start] = error
        # ... and to all weights behind it in one product (GPTQ, step 2: lazy batch updates).
        filters[..., end:] -= errors @ upper[:, start:end, end:]
    return torch.empty_like(rounded).scatter(2, order[:, None, :].expand_as(rounded), rounded)
