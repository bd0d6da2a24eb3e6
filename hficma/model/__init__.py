"""The network: vision, recipe, fusion, similarity; AdaMine beside HF-ICMA."""

from .adamine import AdaMine
from .base import Model, RecipeBatch, Scores, Tokens
from .config import ModelConfig
from .hf_icma import HFICMA
from .loading import build_model, load_model
from .similarity import FoldedWeights, PaddedEncodings

__all__ = [
    "HFICMA",
    "AdaMine",
    "FoldedWeights",
    "Model",
    "ModelConfig",
    "PaddedEncodings",
    "RecipeBatch",
    "Scores",
    "Tokens",
    "build_model",
    "load_model",
]
