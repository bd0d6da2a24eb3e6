"""Makes indexes and answers queries from them, by running bundles.

    build_index(bundle, dataset, out)            a dataset to an index
    Engine.open(index).search(image=...)         answers
    IndexWriter(index).add / remove / compact    changes
    index_info(index), verify_index(index)       what is in it, and whether it is whole
    write_page(path, engine.bundle, photo, answer)   why the items answer, as a web page

Nothing here imports torch but what is loaded when asked for: `runtimes/torch.py`, and `device.py`
with `device_scorer.py`, which search on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hficma.on_demand import on_demand

if TYPE_CHECKING:
    from .answer import Answer as Answer
    from .answer import Failure as Failure
    from .answer import Hit as Hit
    from .build import build_index as build_index
    from .bundle import Bundle as Bundle
    from .explain import write_page as write_page
    from .filters import Filter as Filter
    from .inspection import index_info as index_info
    from .inspection import verify_index as verify_index
    from .search import Engine as Engine
    from .writer import IndexWriter as IndexWriter

__getattr__ = on_demand(
    __name__,
    {
        "Answer": ".answer",
        "Bundle": ".bundle",
        "Engine": ".search",
        "Failure": ".answer",
        "Filter": ".filters",
        "Hit": ".answer",
        "IndexWriter": ".writer",
        "build_index": ".build",
        "index_info": ".inspection",
        "verify_index": ".inspection",
        "write_page": ".explain",
    },
)
