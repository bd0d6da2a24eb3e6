"""Sources of recipes that can be imported, recognised by what is in them.

Each kind is a `Source`; `store` reads nothing else of it.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from .source import Source, SourceRecipe

__all__ = ["Source", "SourceRecipe", "open_source"]


def open_source(spec: str) -> Source:
    """Return the source that a path or a sample's name stands for.

    Args:
        spec: a folder of Recipe1M's layers, of im2recipe-PyTorch's or AdaMine's LMDBs, or of web
            pages, recipe managers' exports, tables and JSON; one such file or archive; a JSONL
            file; a dataset directory; or `sample:N`.

    Raises:
        InputError: nothing there, or nothing that is recognised.
    """
    from ...artifacts.manifest import MANIFEST
    from ..dataset import open_dataset
    from .folder import FolderSource
    from .formats.registry import LINES, recipe_suffix
    from .plain import DatasetSource, JsonlSource
    from .recipe1m.adamine_lmdb import AdaMineSource
    from .recipe1m.im2recipe_lmdb import Im2RecipeSource
    from .recipe1m.layers import Recipe1MSource

    path = Path(spec)
    if spec.partition(":")[0] == "sample" or (path / MANIFEST).is_file():
        return DatasetSource(open_dataset(spec))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir():
        suffix = recipe_suffix(path.name)
        if suffix in LINES or not FolderSource.fits(path):
            return JsonlSource(path)
        return FolderSource(path)
    for source in (AdaMineSource, Im2RecipeSource, Recipe1MSource, FolderSource):
        if source.fits(path):
            return source(path)
    raise InputError(
        f"{path}: holds nothing to import; known are Recipe1M's layer1.json, *_lmdb with "
        "*_keys.pkl, data_lmdb/, and recipes as .jsonl, .json, .jsonld, .html, .csv, .tsv, .cook, "
        ".zip, .paprikarecipes and .melarecipes"
    )
