"""What the pages tell of speed: a search and its stages, a pair, the graphs, the engine, a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..common.report import Column, Figure, Report, cell_text
from .tables import Lines, Record, markdown, noise, share, table

_FORMS = {
    "form": "{form}",
    "ms a pair": "{milliseconds:.2f}{noise}",
    "M mult-adds": "{multiply_adds:.0f}",
    "of the GEMM rate": "{gemm}",
    "kept a recipe": "{kept_kb:,.0f} KB",
}
_SCREENING = {
    "model": "{model}",
    "compared": "{pairs:,}",
    "fp16 off by": "{fp16}",
    "fp16, over u and scale": "{fp16 scaled}",
    "bf16 off by": "{bf16}",
    "bf16, over u and scale": "{bf16 scaled}",
    "fp32 off by": "{fp32}",
}
_GRAPHS = {
    "graph": "{branch}",
    "runtime": "{runtime} {precision}",
    "ms": "{milliseconds:.1f}{noise}",
}
_ENGINE = {
    "growth": {
        "": "{what}",
        "a search, ms": "{total_ms:.1f}",
        "prefilter, ms": "{prefilter_ms:.2f}",
        "opening, s": "{open_s:.3f}",
        "memory, MB": "{own_mb:,.0f}",
        "disk, MB": "{disk_mb:,.0f}",
    },
    "rerank": {
        "": "{what}",
        "fp32, ms": "{ms:.1f}{noise}",
        "bf16 first": "{screened}",
        "eager": "{eager_ms:.1f}",
        "x eager": "{times_eager:.1f}",
        "published": "{published_ms:,.0f}",
        "of the GEMM rate": "{gemm}",
    },
    "batch": {
        "": "{what}",
        "p50": "{p50_ms:.1f}",
        "p50, encoded": "{encoded_ms:.1f}",
        "one at a time": "{alone_ms:.1f}",
        "in batches": "{batch_ms:.1f}",
        "gain": "{gain:.2f}",
    },
}


def search(record: Record) -> Lines:
    """Tell of `hficma bench`: latency and recall, stages, and other ways to the same."""
    report, options = Report.parse(record), record["options"]
    queries = min(options["rounds"] * options["queries_a_round"], *options["sizes"])
    lines = [f"**A search**: {report.title}.", ""]
    lines += _columns(report, "choices", ("p50", "r10", "agreement", "certified"), queries)
    lines += ["", f"{queries:,} photos asked; [95 %] over them; ±: rounds moved by over 15 %.", ""]
    lines += _columns(report, "stages-photo", ("p50", "work", "bytes", "limit"), queries)
    if report.table("others"):
        lines += ["", "Other ways, for the same photos; 100 candidates are re-ranked:", ""]
        lines += _columns(report, "others", ("p50", "rerank", "R@10"), options["exact_queries"])
    return [*lines, "", *(f"* {note[0].upper()}{note[1:]}." for note in report.notes)]


def candidates(record: Record) -> Lines:
    """Tell how candidates trade time for agreement, of the first kind of index."""
    kind = record["options"]["kinds"][0]
    keys = ("p50", "agreement", "certified")
    return _columns(Report.parse(record), "choices", keys, 0, only=f"{kind}, ")


def _columns(
    report: Report, key: str, keys: Sequence[str], queries: int, *, only: str = ""
) -> Lines:
    """Return some columns of a report's table, recalls with their interval over queries."""
    table = report.table(key)
    assert table is not None
    columns = [column for column in table.columns if column.key in keys]

    def text(figure: Figure | None, column: Column) -> str:
        if figure is None:
            return ""
        if column.key in ("r10", "R@10"):
            return share(figure.value, queries)
        return cell_text(figure, column) + noise(figure.noise)

    rows = [
        [row.name, *(text(row.cells.get(column.key), column) for column in columns)]
        for row in table.rows
        if row.name.startswith(only)
    ]
    return markdown([table.first, *(column.label for column in columns)], rows)


def pair(record: Record, cases: int | None = None, brief: bool = False) -> Lines:
    """Tell of `pair_scores`: what one pair's S_local costs, in so many of its cases.

    Args:
        record: as the benchmark writes it.
        cases: None takes all.
        brief: only eager torch, and the package's kernels in float32.
    """
    lines = []
    for title, case in list(record["cases"].items())[:cases]:
        wide = [row for row in case["rows"] if not row["form"].endswith("bf16")]
        largest = max(row["difference"] for row in wide)
        facts = f"{title}, d = {record['width']}; scores in float32 differ by at most {largest:.0e}"
        rows = case["rows"]
        if brief:
            rows = [r for r in rows if "," not in r["form"] or r["form"].endswith("native fp32")]
        lines += [f"**A pair's S_local**: {facts}.", "", *table(_FORMS, rows), ""]
    return lines[:-1]


def pair_costs(record: Record) -> dict[str, Record]:
    """Return what a pair costs in float32: as published, and at each level as the package runs it.

    Args:
        record: of `pair_scores`; where the kernels in C were not compiled, torch runs the package.
    """
    rows = {row["form"]: row for row in next(iter(record["cases"].values()))["rows"]}
    return {
        form: rows.get(f"{form}, native fp32", row) for form, row in rows.items() if "," not in form
    }


def screening(record: Record) -> Lines:
    """Tell of `screening`: how far scores in 16 bits are from float32, by model and in all."""
    rows: dict[str, dict[str, Any]] = {}
    for row in [*record["models"], *({"model": "all", **row} for row in record["totals"])]:
        figures = rows.setdefault(row["model"], {"model": row["model"], "pairs": 0})
        figures["pairs"] += row["count"]
        figures |= {row["precision"]: f"{row['largest']:.1e}"}
        figures |= {row["precision"] + " scaled": f"{row['scaled']:.2f}"}
    # Where the kernels are not compiled there is no bfloat16.
    absent = dict.fromkeys(("bf16", "bf16 scaled"), "")
    return table(_SCREENING, [absent | row for row in rows.values()])


def branches(record: Record) -> Lines:
    """Tell of `branches`: a line for each compiled graph in each runtime and precision."""
    model, export = record["model"], record["export"]
    sizes = ", ".join(f"{size:.0f} MB in {name}" for name, size in record["graphs_mb"].items())
    lines = [f"**Graphs** of {model['kind']} with {model['backbone']}, d = {model['width']}:", ""]
    lines += [*table(_GRAPHS, record["rows"]), "", f"They take {sizes}."]
    if export:
        lines[-1] += f" Export took {export['seconds']:.0f} s, at most {export['peak_mb']:,.0f} MB."
    return lines


def engine(record: Record, parts: Sequence[str] = tuple(_ENGINE)) -> Lines:
    """Tell of `engine`: growth, re-ranking and batches, as far as they were measured."""
    lines = []
    for key in parts:
        if part := record["tables"].get(key):
            lines += [f"**{part['title']}**:", "", *table(_ENGINE[key], part["rows"]), ""]
    return lines[:-1]


def gpu(record: Record) -> Lines:
    """Tell of `gpu`: all of a run's tables, those of what was not measured too."""
    report = Report.parse(record)
    lines = [f"* {figure} {what}" for figure, what in report.headline]
    for one in report.tables:
        lines += ["", f"**{one.title}.** {one.note}", "", *one.markdown()]
    return [*lines, "", *(f"* {note}" for note in report.notes)]
