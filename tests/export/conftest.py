"""The engine's shared bundles, for the tests of export too."""

from tests.engine.conftest import adamine_bundle, hf_icma_bundle

__all__ = ["adamine_bundle", "hf_icma_bundle"]
