"""`hficma bench`: latency of every stage, recall beside it, and what others need for the same."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from hficma.artifacts.manifest import new_directory
from hficma.artifacts.workspace import Workspace
from hficma.engine import Bundle
from hficma.engine.index.index_facts import IndexFacts
from hficma.errors import InputError
from hficma.progress import Progress

from ..common.compare import Change, Comparison, compare_reports
from ..common.page import write_page
from ..common.report import FILE, Report
from ..common.timing import environment
from ..common.workload import Bag, IndexKind, bags_of, bundle_of, queries_for, seeds
from .options import BenchOptions
from .runner import Session

__all__ = ["BenchOptions", "Change", "Comparison", "Report", "compare_reports", "run_bench"]

PAGE = "report.html"


def run_bench(
    options: BenchOptions,
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    out: Path | None = None,
) -> Path:
    """Measure, and write `report.json` and `report.html`.

    Args:
        options: what to measure.
        workspace: where bundles, the cache and reports are.
        progress: told of the work.
        out: the report's directory; None takes a new name in the workspace.

    Returns:
        the report's directory; `Report.read(it).markdown()` is for the terminal.

    Raises:
        InputError: an option or the data cannot be used.
        ArtifactError: something is missing or damaged.
    """
    progress, began = progress or Progress(), time.perf_counter()
    kinds = [IndexKind.parse(text) for text in options.kinds]
    if options.index is None:
        bundle, made = bundle_of(options.bundle, workspace, progress)
        facts = Bundle.open(bundle).facts
        bags, notes = bags_of(options.data, facts.dataset, size=options.items, count=options.bags)
    else:
        bundle, kinds, bags, made = _of_index(options.index, options)
        facts, notes = Bundle.open(bundle).facts, []
    with ExitStack() as stack:
        session = Session(options, bundle, kinds, bags, workspace, progress, stack)
        tables = session.tables() if options.index is None else session.index_tables(options.index)
    chosen = {"model_id": facts.model_id, "item_set": bags[0].name} | session.chosen
    report = Report(
        title=f"{facts.model.kind} of width {facts.width} on {len(bags[0]):,} items",
        environment=environment() | {"device": options.device, "threads": session.threads},
        options=options.to_json() | seeds(bags) | chosen,
        headline=session.headline(tables),
        notes=tuple(note for note in (made, *notes, *session.notes) if note),
        tables=tuple(tables),
        seconds=time.perf_counter() - began,
    )
    out = out or workspace.new("report", f"bench-{options.setup}")
    with new_directory(out, kind="report", made_by="hficma bench") as (folder, recorded):
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        recorded.update(benchmark="bench", setup=options.setup, made=made_at)
        report.write(folder / FILE)
        write_page(report, folder / PAGE)
    return out


def _of_index(index: Path, options: BenchOptions) -> tuple[Path, list[IndexKind], list[Bag], str]:
    """An index's bundle and kind, queries for it, and a line that says what is measured."""
    facts = IndexFacts.read(index)
    data = options.data or facts.dataset
    if data is None:
        raise InputError(f"{index}: does not say what it was made of; name it with --data")
    bag = queries_for(data, options.items)
    note = f"an index as it stands: {index.name}, of {facts.of}; queries are test items of {data}"
    kinds = [IndexKind(facts.prefilter, facts.encoding_precision)]
    return options.bundle or facts.find_bundle(index), kinds, [bag], note
