"""The published formulas of HF-ICMA's encoders, as plainly as they are printed: loops for sums.

Slow, for comparison only. Reads its weights from a state dict by name, so that it shares no
code with the encoders; of S_local the plain layers are `hficma.model.published_attention`. Where
the design departs from the release (padding, masks), full recipes have neither, and the formulas
are the published ones to the letter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hficma.model.fusion import CrossFusion
from hficma.model.published_attention import published_scores

State = dict[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    y = state[f"{name}.weight"] @ x
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def unit(x: Tensor) -> Tensor:
    return x / x.norm().clamp_min(1e-12)


def softmax(values: list[Tensor]) -> list[Tensor]:
    highest = max(float(value.detach()) for value in values)
    powers = [torch.exp(value - highest) for value in values]
    return [power / sum(powers) for power in powers]


def attend(query: Tensor, keys: list[Tensor], values: list[Tensor], scale: float) -> Tensor:
    shares = softmax([(query @ key) * scale for key in keys])
    return sum(share * value for share, value in zip(shares, values, strict=True))


def gru(state: State, name: str, inputs: list[Tensor]) -> list[Tensor]:
    width = state[f"{name}.weight_hh_l0"].shape[1]
    hidden = inputs[0].new_zeros(width)
    outputs = []
    for x in inputs:
        from_x = state[f"{name}.weight_ih_l0"] @ x + state[f"{name}.bias_ih_l0"]
        from_h = state[f"{name}.weight_hh_l0"] @ hidden + state[f"{name}.bias_hh_l0"]
        reset = torch.sigmoid(from_x[:width] + from_h[:width])
        update = torch.sigmoid(from_x[width : 2 * width] + from_h[width : 2 * width])
        new = torch.tanh(from_x[2 * width :] + reset * from_h[2 * width :])
        hidden = (1 - update) * new + update * hidden
        outputs.append(hidden)
    return outputs


def recipe(
    state: State, ingredient_ids: list[int], sentences: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """ins_fuse (2 d) and the tokens v2 (T of d)."""
    words = [state["ingredient_words.weight"][number] for number in ingredient_ids]
    ahead = gru(state, "ingredient_gru.ahead", words)
    back = gru(state, "ingredient_gru.back", words[::-1])[::-1]
    ingredients = [(a + b) / 2 for a, b in zip(ahead, back, strict=True)]
    scale = 1 / math.sqrt(len(ingredients[0]))
    sentence_keys = [linear(state, "recipe_fusion.sentence_key", s) for s in sentences]
    ingredient_keys = [linear(state, "recipe_fusion.ingredient_key", g) for g in ingredients]
    fused_ingredients = [
        torch.cat([g, attend(key, sentence_keys, sentences, scale)])
        for g, key in zip(ingredients, ingredient_keys, strict=True)
    ]
    fused_sentences = [
        torch.cat([s, attend(key, ingredient_keys, ingredients, scale)])
        for s, key in zip(sentences, sentence_keys, strict=True)
    ]
    return sum(fused_sentences) / len(sentences), [embed(state, g) for g in fused_ingredients]


def embed(state: State, token: Tensor) -> Tensor:
    return unit(linear(state, "joint_embedding.linear", token).relu())


def image(state: State, regions: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The mean region and the tokens v1 (R of d)."""
    return sum(regions) / len(regions), [embed(state, region) for region in regions]


def score(
    state: State,
    fusion: CrossFusion,
    regions: list[Tensor],
    ingredient_ids: list[int],
    sentences: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """S, S_global and S_local of one photo and one recipe."""
    image_mean, v1 = image(state, regions)
    recipe_mean, v2 = recipe(state, ingredient_ids, sentences)
    global_ = image_mean @ recipe_mean
    lengths = torch.tensor([len(v2)])
    local = published_scores(fusion, torch.stack(v1)[None], torch.stack(v2)[None], lengths, 1)
    return 0.2 * global_ + 0.8 * local[0, 0], global_, local[0, 0]
