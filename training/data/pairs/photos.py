"""The photos of a run's pairs in the workspace's cache, and whether they fit there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hficma.data.dataset import Dataset
from hficma.model import Model
from hficma.types import Positions

from ...config.options import Options
from ..photo_cache import PhotoArrays, Specs, cached_features, feature_specs, specs_bytes


def pair_features(
    model: Model,
    dataset: Dataset,
    rows: Positions,
    options: Options,
    cache: Path,
    on_done: Callable[[int], None],
    *,
    on_write: Callable[[int], None] = lambda size: None,
) -> PhotoArrays:
    """Return what a run's frozen image encoder says of its pairs' photos; see `cached_features`.

    Args:
        model: of the run, its image encoder in evaluation mode.
        dataset: holds the pairs.
        rows: positions (P,) of all pairs of the run, `in_order`.
        options: of the run.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.
        on_write: called with the bytes that are about to be written.
    """
    return cached_features(
        model, dataset, rows, cache, on_done,
        regions=_reads_regions(model, options), crops=options.model.image.crops,
        views=options.photos.views, scale=options.photos.scale, on_write=on_write,
    )  # fmt: skip


def pair_feature_specs(model: Model, pairs: int, options: Options) -> Specs:
    """Return what `pair_features` writes of so many pairs."""
    return feature_specs(
        model, pairs, regions=_reads_regions(model, options), crops=options.model.image.crops,
        views=options.photos.views,
    )  # fmt: skip


def fits(specs: Specs, options: Options) -> bool:
    """Return whether arrays are cached, by the limit of a run; one of an older version has none."""
    limit = options.loader.cache_limit
    return limit is None or specs_bytes(specs) <= limit


def _reads_regions(model: Model, options: Options) -> bool:
    """Return whether anything reads regions of photos."""
    return model.has_local or options.photos.window < 1
