"""The network: vision, recipe, fusion, similarity; AdaMine beside HF-ICMA."""

from hficma.model.adamine import AdaMine
from hficma.model.base import Model, RecipeBatch, Scores, Tokens
from hficma.model.config import ModelConfig
from hficma.model.hf_icma import HFICMA
from hficma.model.load import build_model, load_model
from hficma.model.similarity import Side, SpineWeights

__all__ = [
    "HFICMA",
    "AdaMine",
    "Model",
    "ModelConfig",
    "RecipeBatch",
    "Scores",
    "Side",
    "SpineWeights",
    "Tokens",
    "build_model",
    "load_model",
]
