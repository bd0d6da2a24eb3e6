"""The network: vision, recipe, fusion, similarity; AdaMine and dual encoders beside HF-ICMA.

Names are loaded when first used: the engine reads a model's options (`ModelConfig`) without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_names import on_demand

if TYPE_CHECKING:
    from .adamine import AdaMine as AdaMine
    from .base import Model as Model
    from .base import Scores as Scores
    from .config import HeadConfig as HeadConfig
    from .config import ImageConfig as ImageConfig
    from .config import ModelConfig as ModelConfig
    from .dual import DualEncoder as DualEncoder
    from .encoders.batches import RecipeBatch as RecipeBatch
    from .encoders.batches import Tokens as Tokens
    from .hf_icma import HFICMA as HFICMA
    from .loading import build_model as build_model
    from .loading import load_model as load_model
    from .similarity import FoldedWeights as FoldedWeights
    from .similarity import PaddedEncodings as PaddedEncodings

__getattr__ = on_demand(
    __name__,
    {
        "HFICMA": ".hf_icma",
        "AdaMine": ".adamine",
        "DualEncoder": ".dual",
        "FoldedWeights": ".similarity",
        "HeadConfig": ".config",
        "Model": ".base",
        "ImageConfig": ".config",
        "ModelConfig": ".config",
        "PaddedEncodings": ".similarity",
        "RecipeBatch": ".encoders.batches",
        "Scores": ".base",
        "Tokens": ".encoders.batches",
        "build_model": ".loading",
        "load_model": ".loading",
    },
)
