"""The model's folded weights on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from ..bundle.bundle import Bundle

if TYPE_CHECKING:
    from hficma.model.similarity import FoldedWeights


_folded: WeakKeyDictionary[Bundle, dict[torch.device, FoldedWeights]] = WeakKeyDictionary()
"""Of each open bundle: queries and items are brought to their levels by the same."""


def folded_weights(bundle: Bundle, device: torch.device) -> FoldedWeights:
    """Return a model's folded weights in float32, multiplied out in float64 as export does.

    Args:
        bundle: of a model with a local part.
        device: where to.
    """
    from hficma.model import HFICMA, load_model

    by_device = _folded.setdefault(bundle, {})
    if device in by_device:
        return by_device[device]
    model = load_model(bundle.path)
    assert isinstance(model, HFICMA)
    by_device[device] = model.fold_in_float64().to(device, torch.float32)
    return by_device[device]
