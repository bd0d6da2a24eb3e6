"""Make indexes and answer queries from them, by running bundles.

    build_index(bundle, dataset, out)            a dataset to an index
    Engine.open(index).search(image=...)         answers
    IndexWriter(index).add / remove / compact    changes
    index_info(index), verify_index(index)       what is in it, and whether it is whole
    write_page(path, engine.bundle, answer)      why the items answer, as a web page

Nothing here imports torch, except what runs on a GPU or in torch: `gpu/` and
`runtimes/torch_backend.py`, which are loaded only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hficma.lazy_names import on_demand

if TYPE_CHECKING:
    from .bundle.bundle import Bundle as Bundle
    from .engine import Engine as Engine
    from .explain import write_page as write_page
    from .index.filters import Filter as Filter
    from .index.info import index_info as index_info
    from .results import Answer as Answer
    from .results import Failure as Failure
    from .results import Hit as Hit
    from .runtimes.options import ExecutionOptions as ExecutionOptions
    from .writing.build import build_index as build_index
    from .writing.index_writer import IndexWriter as IndexWriter
    from .writing.verify import verify_index as verify_index

__getattr__ = on_demand(
    __name__,
    {
        "Answer": ".results",
        "Bundle": ".bundle.bundle",
        "Engine": ".engine",
        "ExecutionOptions": ".runtimes.options",
        "Failure": ".results",
        "Filter": ".index.filters",
        "Hit": ".results",
        "IndexWriter": ".writing.index_writer",
        "build_index": ".writing.build",
        "index_info": ".index.info",
        "verify_index": ".writing.verify",
        "write_page": ".explain",
    },
)
