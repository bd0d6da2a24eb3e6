"""hficma: the recipe for a photo of a dish, and the photo for a recipe.

Two entry points, loaded when first used, so that serving imports no torch:

* `Engine` answers queries from an index, with compiled branches.
* `load_model` opens a trained model in torch, for research.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checkout import find_siblings, is_checkout
from .lazy_names import on_demand

if TYPE_CHECKING:
    from hficma.engine import Engine

    from .model import load_model
    from .recipe import Recipe

__version__ = "0.1.0"
__all__ = ["Engine", "Recipe", "__version__", "load_model"]

if is_checkout(__path__[0]):
    find_siblings(__name__, __path__[0])

__getattr__ = on_demand(
    __name__,
    {
        "Engine": "hficma.engine",
        "load_model": "hficma.model",
        "Recipe": "hficma.recipe",
    },
)
