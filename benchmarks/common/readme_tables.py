"""What README tells of each benchmark's figures: what a user must know, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hficma.metrics import DIRECTIONS, figure_text, recall_interval

from .report import Column, Figure, Report, Row, Table, cell_text
from .timing import NOISY

Record = Mapping[str, Any]
SHOWN_STAGES = 4
"""Stages of a search that are named; the others are quick."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """How a benchmark's results become lines of Markdown."""

    part: str
    """Of README."""
    command: str
    """For results that do not name the command that made them."""
    write: Callable[[Record], Sequence[str]]
    """From the benchmark's JSON."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose first column is text and whose others are figures."""
    yield "| " + " | ".join(header) + " |"
    yield "| --- |" + " ---: |" * (len(header) - 1)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def search(record: Record) -> list[str]:
    """`hficma bench`: latency and recall, and others for the same."""
    report = Report.parse(record)
    choices, others = report.table("choices"), report.table("others")
    assert choices is not None
    noisy = [note for note in report.notes if note.startswith("noisy")]
    lines = [f"**A search**: {report.title}. {_items(report)}", ""]
    first = choices.rows[0].name.rpartition(", ")[0]
    typical = str(record["options"]["typical"])
    rows = [
        row
        for row in choices.rows
        if row.name.startswith(f"{first}, ") or row.name.split()[-2] == typical
    ]
    # Queries of the rounds; the 99th percentile of so few is the slowest one or two.
    asked = int(record["options"]["rounds"]) * int(record["options"]["queries_a_round"])
    asked = min(asked, *record["options"]["sizes"])
    lines += _figures(choices, rows, ("p50", "r10", "agreement", "certified"), asked)
    lines += ["", f"{asked:,} photos asked; [95 %] over them; ±: rounds moved by over 15 %."]
    if (stages := report.table("stages-photo")) is not None:
        lines += ["", _stages(stages, typical)]
    if others is not None:
        lines += ["", f"Against others: {others.note.split('.')[0]}.", ""]
        # A ratio of two times hides what each is worth: where the machine was noisy, only those.
        shown = ("p50", "rerank", "R@10") if noisy else ("p50", "rerank", "times", "R@10")
        lines += _figures(others, others.rows, shown, int(record["options"]["exact_queries"]))
    lines += [f"\nNote: {note.partition(';')[0]}; ratios of times are left out." for note in noisy]
    return lines


def _items(report: Report) -> str:
    """Where the items are from."""
    notes = [note for note in report.notes if note.startswith(("items are", "no bundle"))]
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)


def _figures(table: Table, rows: Sequence[Row], keys: Sequence[str], queries: int) -> Iterator[str]:
    """Some columns of a report's table, recalls of one bag with their interval over queries."""
    columns = [column for column in table.columns if column.key in keys]
    cells = [
        [row.name, *(_cell(row.cells.get(c.key), c, queries) for c in columns)] for row in rows
    ]
    return markdown([table.first, *(column.label for column in columns)], cells)


def _cell(figure: Figure | None, column: Column, queries: int) -> str:
    if figure is None:
        return ""
    if column.key in ("r10", "R@10") and figure.spread is None and figure.upto is None:
        return figure_text(figure.value, recall_interval(figure.value, queries))
    return cell_text(figure, column) + noise_mark(figure.noise)


def noise_mark(spread: float) -> str:
    """What a figure must carry that moved too much to be taken at its word."""
    return f" ± {100 * spread:.0f} %" if spread > NOISY else ""


def _stages(table: Table, candidates: str) -> str:
    """The stages that take longest, in one sentence."""
    times = {row.name: cell.value for row in table.rows if (cell := row.cells["p50"])}
    total = times.pop("total")
    longest = sorted(times, key=lambda name: -times[name])[:SHOWN_STAGES]
    spreads = {row.name: cell.noise for row in table.rows if (cell := row.cells["p50"])}
    parts = ", ".join(f"{name} {times[name]:.1f}{noise_mark(spreads[name])}" for name in longest)
    return f"Of {total:.1f} ms with {candidates} candidates: {parts}."


def pair(record: Record) -> list[str]:
    """`pair_scores`: what one pair's S_local costs."""
    title, case = next(iter(record["cases"].items()))
    rows = [
        [
            row["form"] if row["form"] == "published" else f"`{row['form']}`",
            f"{row['milliseconds']:.2f}{noise_mark(row['spread'])}",
            f"{row['multiply_adds']:.0f}",
            f"{100 * row['gemm_share']:.0f} %",
            _ratio(row["ratio"], row["spread"], case["rows"][0]["spread"]),
            "" if row["form"] == "published" else f"{row['kept_kb']:,.0f} KB",
        ]
        for row in case["rows"]
    ]
    header = ("form", "ms a pair", "million multiply-adds", "of the GEMM rate", "times faster")
    lines = [
        f"**A pair's S_local**: {title}, d = {record['width']}; beside the graph as published, "
        "blocked at its best size, in the same run.",
        "",
        *markdown((*header, "kept a recipe"), rows),
        "",
    ]
    difference = max(row["difference"] for row in case["rows"])
    said = f"The largest difference of a score is {_power(difference)}."
    for other, found in record["cases"].items():
        if "real lengths" in other:
            fastest = found["rows"][-1]
            said += (
                f" At real lengths, about nine ingredients, `{fastest['form']}` take "
                f"{fastest['milliseconds']:.2f}{noise_mark(fastest['spread'])} ms."
            )
    return [*lines, said]


def _ratio(ratio: float, *spreads: float) -> str:
    """How many times faster; nothing where either time moved too much to tell."""
    return "" if max(spreads) > NOISY else f"{ratio:.1f}"


def training_step(record: Record) -> list[str]:
    """`training_step`: seconds and memory of a batch of pairs."""
    figures = record["figures"]
    base = next(figures[name] for name in figures if name.startswith("published"))
    rows = [
        [name, f"{one['seconds']:.1f}", f"{one['step_mb']:,.0f}",
         f"{one['step_mb'] / base['step_mb']:.2f}"]
        for name, one in figures.items()
    ]  # fmt: skip
    return [
        f"**A training step**, forward and backward over all pairs, d = {record['width']}; the "
        f"median of {_runs(figures)}:",
        "",
        *markdown(("step", "seconds", "peak MB", "of the published"), rows),
    ]


def _runs(figures: Mapping[str, Any]) -> str:
    counts = sorted({len(one["runs"]) for one in figures.values()})
    return "one run each" if counts == [1] else f"{counts[0]} runs each"


def branches(record: Record) -> list[str]:
    """`branches`: each branch in each runtime, in one line."""
    ways = list(dict.fromkeys(f"{r['runtime']} {r['precision']}" for r in record["rows"]))
    by_branch: dict[str, dict[str, str]] = {}
    for row in record["rows"]:
        cells = by_branch.setdefault(row["branch"], {})
        mark = noise_mark(row["spread"])
        cells[f"{row['runtime']} {row['precision']}"] = f"{row['milliseconds']:.1f}{mark}"
    model = record["model"]
    rows = [[name, *(cells.get(way, "") for way in ways)] for name, cells in by_branch.items()]
    sizes = ", ".join(f"{size:.0f} MB in {name}" for name, size in record["graphs_mb"].items())
    lines = [
        f"**Branches**: ms of {model['kind']} with {model['backbone']}, d = {model['width']}; "
        "`torch` is eager.",
        "",
        *markdown(("branch", *ways), rows),
        "",
        f"The graphs take {sizes}.",
    ]
    if export := record["export"]:
        lines[-1] += (
            f" Exporting them and proving each equal took {export['seconds']:.0f} s and at most "
            f"{export['peak_mb']:,.0f} MB."
        )
    return lines


def engine(record: Record) -> list[str]:
    """`engine`: re-ranking, batches and growth."""
    tables = record["tables"]
    lines = []
    if "growth" in tables:
        shown = {
            "total_ms": "a search, ms", "prefilter_ms": "prefilter, ms", "open_s": "opening, s",
            "own_mb": "memory, MB", "disk_mb": "disk, MB",
        }  # fmt: skip
        rows = [
            [row["what"], *(_short(row[key]) for key in shown)] for row in tables["growth"]["rows"]
        ]
        lines += [f"**{tables['growth']['title']}**:", "", *markdown(("", *shown.values()), rows)]
    if "rerank" in tables:
        rows = [
            [
                row["what"],
                _short(row["ms"]) + noise_mark(row["spread"]),
                _ratio(row["ratio"], row["spread"]),
                f"{100 * row['gemm_share']:.0f}",
            ]
            for row in tables["rerank"]["rows"]
        ]
        header = ("kept", "ms", "x published", "% of GEMM rate")
        lines += ["", f"**{tables['rerank']['title']}**:", "", *markdown(header, rows)]
    if "batch" in tables:
        parts = [
            f"{row['what']}: {_short(row['queries_a_second'])} a second"
            for row in tables["batch"]["rows"]
        ]
        lines += ["", f"{'; '.join(parts)}."]
    return lines


def quality(record: Record) -> list[str]:
    """`quality`: every loss and system on the test pairs."""
    rows = []
    for method in record["methods"]:
        photo, recipe = (method["S"][direction] for direction in DIRECTIONS)
        ten, kept = photo["R@10"], method["prefilter_recall"][DIRECTIONS[0]]
        over = ten["against_baseline"]
        rows.append([
            method["name"],
            f"{photo['medR']['value']:.1f}",
            f"{photo['R@1']['value']:.1f}",
            f"{ten['value']:.1f} [{ten['low']:.0f}, {ten['high']:.0f}]",
            f"{over['value']:+.1f} [{over['low']:+.0f}, {over['high']:+.0f}]",
            f"{method['S_global'][DIRECTIONS[0]]['R@10']['value']:.1f}",
            " / ".join(f"{share:.0f}" for share in kept.values()),
            f"{recipe['medR']['value']:.1f}",
            f"{recipe['R@10']['value']:.1f}",
            str(method["seeds"]),
        ])  # fmt: skip
    count = record["test_pairs"]
    depths = " / ".join(record["methods"][0]["prefilter_recall"][DIRECTIONS[0]])
    header = (
        "method", "medR", "R@1", "R@10 [95 %]", f"over {record['baseline']}",
        "R@10, S_global alone", f"kept at {depths}", "back: medR", "back: R@10", "seeds",
    )  # fmt: skip
    notes = [f"* {one['name']}: {one['note']}." for one in record["methods"] if one["note"]]
    return [
        f"**{record['title']}**: {count} test pairs as one bag, photo to recipe and back; means "
        "over seeds, 95 % intervals over queries, differences paired. Kept: how often the best by "
        "S is among the first by S_global. Chance is medR "
        f"{(count + 1) / 2:.0f} and R@10 {1000 / count:.1f}.",
        "",
        *markdown(header, rows),
        "",
        *notes,
    ]


def text_quality(record: Record) -> list[str]:
    """`text_quality`: ingredients found, and what sentence vectors know."""
    found = " and ".join(
        f"{_share(one['accuracy'], one['lines'])} % of {one['lines']} lines ({name})"
        for name, one in record["ingredients"].items()
    )
    lines = [f"**Text**: ingredients are named right in {found}."]
    if "sentences" in record:
        sentences = record["sentences"]
        rows = [
            [f"{task}, {encoder}", *(f"{one[key]:.1f}" for key in ("medR", "R@1", "R@10"))]
            for encoder, tasks in sentences["encoders"].items()
            for task, one in tasks.items()
        ]
        lines[0] += f" Sentence vectors find, among {sentences['candidates']:,} candidates:"
        lines += ["", *markdown(("task, encoder", "medR", "R@1", "R@10"), rows)]
    return lines


def sample_hardness(record: Record) -> list[str]:
    """`sample_hardness`: a trained run beside what colours alone and a wrong table give."""
    rows = [
        [
            name,
            *(
                f"{one[way][key]:.1f}"
                if key == "medR" or name == "chance"
                else _share(one[way][key], record["items"])
                for way in DIRECTIONS
                for key in ("medR", "R@1")
            ),
        ]
        for name, one in record["rows"].items()
    ]
    header = ("ranked by", "medR", "R@1 [95 %]", "back: medR", "back: R@1")
    return [
        f"**The synthetic sample** ({record['data']}, {record['items']} test items, photo to "
        "recipe and back):",
        "",
        *markdown(header, rows),
    ]


def _share(percent: float, count: int) -> str:
    """A share of so many, in percent, with its 95 % interval."""
    return figure_text(percent, recall_interval(percent, count))


def _power(value: float) -> str:
    """6e-8."""
    digits, _, exponent = f"{value:.0e}".partition("e")
    return f"{digits}e{int(exponent)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


WRITERS: dict[str, Writer] = {
    "pair-scores": Writer(part="speed", command="hficma bench pair_scores", write=pair),
    "bench-1k": Writer(part="speed", command="hficma bench --setup 1k", write=search),
    "bench-10k": Writer(part="speed", command="hficma bench --setup 10k", write=search),
    "branches": Writer(part="speed", command="hficma bench branches", write=branches),
    "engine": Writer(part="speed", command="hficma bench engine", write=engine),
    "training-step": Writer(
        part="speed", command="hficma bench training_step", write=training_step
    ),
    "quality": Writer(part="quality", command="hficma bench quality", write=quality),
    "sample-hardness": Writer(
        part="quality", command="hficma bench sample_hardness", write=sample_hardness
    ),
    "text-quality": Writer(part="quality", command="hficma bench text_quality", write=text_quality),
}
"""By the name that results begin with, in README's order."""
