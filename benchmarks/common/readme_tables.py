"""What the documentation tells of each benchmark's figures, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hficma.metrics import DIRECTIONS, figure_text, recall_interval

from .report import Report, Table, cell_text
from .timing import NOISY

Record = Mapping[str, Any]
Lines = list[str]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table whose first column is text and whose others are figures."""
    yield "| " + " | ".join(header) + " |"
    yield "| --- |" + " ---: |" * (len(header) - 1)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def noise_mark(spread: float) -> str:
    """Return what a figure must carry that moved too much to be taken at its word."""
    return f" ± {100 * spread:.0f} %" if spread > NOISY else ""


def search(record: Record) -> Lines:
    """Tell of `hficma bench`: latency and recall, stages, and other ways to the same."""
    report, options = Report.parse(record), record["options"]
    queries = min(options["rounds"] * options["queries_a_round"], *options["sizes"])
    lines = [f"**A search**: {report.title}.", ""]
    lines += _columns(report.table("choices"), ("p50", "r10", "agreement", "certified"), queries)
    lines += ["", f"{queries:,} photos asked; [95 %] over them; ±: rounds moved by over 15 %.", ""]
    lines += _columns(report.table("stages-photo"), ("p50", "work", "bytes", "limit"), queries)
    noisy = any(note.startswith("noisy") for note in report.notes)
    # A ratio of two times hides what each is worth: where the machine was noisy, only those.
    ways = ("p50", "rerank", "R@10") if noisy else ("p50", "rerank", "times", "R@10")
    if others := _columns(report.table("others"), ways, options["exact_queries"]):
        lines += ["", "Other ways, for the same photos; 100 candidates are re-ranked:", "", *others]
    return [*lines, "", *(f"* {note[0].upper()}{note[1:]}." for note in report.notes)]


def candidates(record: Record) -> Lines:
    """Tell how candidates trade time for agreement, of the first kind of index."""
    choices = Report.parse(record).table("choices")
    assert choices is not None
    kind = choices.rows[0].name.rpartition(", ")[0]
    few = [row for row in choices.rows if row.name.startswith(f"{kind}, ")]
    shown = Table(key="", title="", first=kind, columns=choices.columns, rows=tuple(few))
    return _columns(shown, ("p50", "agreement", "certified"), 0)


def _columns(table: Table | None, keys: Sequence[str], queries: int) -> Lines:
    """Some columns of a report's table, recalls of one bag with their interval over queries."""
    if table is None:
        return []
    columns = [column for column in table.columns if column.key in keys]
    rows = []
    for row in table.rows:
        cells = []
        for column in columns:
            figure = row.cells.get(column.key)
            if figure and column.key.upper() in ("R10", "R@10") and figure.spread is None:
                cells.append(_share(figure.value, queries))
            else:
                cells.append(cell_text(figure, column) + noise_mark(figure.noise if figure else 0))
        rows.append([row.name, *cells])
    return list(markdown([table.first, *(column.label for column in columns)], rows))


def pair(record: Record) -> Lines:
    """Tell of `pair_scores`: what one pair's S_local costs."""
    case, *others = record["cases"].items()
    base = case[1]["rows"][0]["spread"]
    lines = [f"**A pair's S_local**: {case[0]}, d = {record['width']}.", ""]
    rows = [
        [
            row["form"], f"{row['milliseconds']:.2f}{noise_mark(row['spread'])}",
            f"{row['multiply_adds']:.0f}", f"{100 * row['gemm_share']:.0f} %",
            "" if max(row["spread"], base) > NOISY else f"{row['ratio']:.1f}",
            f"{row['kept_kb']:,.0f} KB",
        ]
        for row in case[1]["rows"]
    ]  # fmt: skip
    header = (
        "form",
        "ms a pair",
        "M mult-adds",
        "of the GEMM rate",
        "times faster",
        "kept a recipe",
    )
    largest = max(row["difference"] for row in case[1]["rows"])
    lines += [*markdown(header, rows), "", f"The largest difference of a score is {largest:.0e}."]
    for name, other in others:
        if "real lengths" in name:
            fast = other["rows"][-1]
            lines[-1] += (
                f" At real lengths, about nine ingredients, {fast['form']} take "
                f"{fast['milliseconds']:.2f}{noise_mark(fast['spread'])} ms."
            )
    return lines


def training_step(record: Record) -> Lines:
    """Tell of `training_step`: seconds and memory of a batch of pairs."""
    figures = record["figures"]
    base = next(figures[name] for name in figures if name.startswith("published"))
    rows = [
        [name, f"{one['seconds']:.1f}", f"{one['step_mb']:,.0f}",
         f"{one['step_mb'] / base['step_mb']:.2f}"]
        for name, one in figures.items()
    ]  # fmt: skip
    return [
        f"**A training step**, forward and backward over all pairs, d = {record['width']}; medians "
        f"of {len(base['runs'])} run(s):",
        "",
        *markdown(("step", "seconds", "peak MB", "of the published"), rows),
    ]


def branches(record: Record) -> Lines:
    """Tell of `branches`: a line for each compiled graph in each runtime and precision."""
    model, export = record["model"], record["export"]
    rows = [
        [row["branch"], f"{row['runtime']} {row['precision']}",
         f"{row['milliseconds']:.1f}{noise_mark(row['spread'])}"]
        for row in record["rows"]
    ]  # fmt: skip
    sizes = ", ".join(f"{size:.0f} MB in {name}" for name, size in record["graphs_mb"].items())
    lines = [f"**Graphs** of {model['kind']} with {model['backbone']}, d = {model['width']}:", ""]
    lines += [*markdown(("graph", "runtime", "ms"), rows), "", f"They take {sizes}."]
    if export:
        lines[-1] += (
            f" Export took {export['seconds']:.0f} s and at most {export['peak_mb']:,.0f} MB."
        )
    return lines


def growth(record: Record) -> Lines:
    """Tell how a search grows with the index, by `engine`."""
    shown = {"total_ms": "a search, ms", "prefilter_ms": "prefilter, ms", "open_s": "opening, s",
             "own_mb": "memory, MB", "disk_mb": "disk, MB"}  # fmt: skip
    return _rows(record, "growth", shown)


def engine(record: Record) -> Lines:
    """Tell of `engine`: growth, re-ranking and batches."""
    rerank = {"ms": "ms", "published_ms": "published, ms", "gemm_share": "of the GEMM rate"}
    batch = {"queries_a_second": "photos a second", "total_ms": "ms a photo"}
    parts = (growth(record), _rows(record, "rerank", rerank), _rows(record, "batch", batch))
    return [line for part in parts if part for line in (*part, "")][:-1]


def _rows(record: Record, key: str, shown: Mapping[str, str]) -> Lines:
    """A table of `engine`, of some columns."""
    if key not in record["tables"]:
        return []
    table = record["tables"][key]
    rows = [
        [row["what"], *(f"{100 * row[c]:.0f} %" if "share" in c else _short(row[c]) for c in shown)]
        for row in table["rows"]
    ]
    return [f"**{table['title']}**:", "", *markdown(("", *shown.values()), rows)]


def quality(record: Record) -> Lines:
    """Tell of `quality`: every loss and system on the test pairs."""
    rows = []
    for method in record["methods"]:
        photo, recipe = (method["S"][direction] for direction in DIRECTIONS)
        ten, over = photo["R@10"], photo["R@10"]["against_baseline"]
        rows.append([
            method["name"], f"{photo['medR']['value']:.1f}", f"{photo['R@1']['value']:.1f}",
            f"{ten['value']:.1f} [{ten['low']:.0f}, {ten['high']:.0f}]",
            f"{over['value']:+.1f} [{over['low']:+.0f}, {over['high']:+.0f}]",
            f"{method['S_global'][DIRECTIONS[0]]['R@10']['value']:.1f}",
            f"{recipe['medR']['value']:.1f}", f"{recipe['R@10']['value']:.1f}",
            str(method["seeds"]),
        ])  # fmt: skip
    count = record["test_pairs"]
    header = ("method", "medR", "R@1", "R@10 [95 %]", f"over {record['baseline']}",
              "R@10, S_global alone", "back: medR", "back: R@10", "seeds")  # fmt: skip
    return [
        f"**{record['title']}**: {count} test pairs as one bag, photo to recipe and back; means "
        "over seeds, 95 % intervals over queries, differences paired. Chance is medR "
        f"{(count + 1) / 2:.0f} and R@10 {1000 / count:.1f}.",
        "",
        *markdown(header, rows),
        "",
        *(f"* {one['name']}: {one['note']}." for one in record["methods"] if one["note"]),
    ]


def text_quality(record: Record) -> Lines:
    """Tell of `text_quality`: ingredients found, and what sentence vectors know."""
    named = " and ".join(
        f"{_share(one['accuracy'], one['lines'])} % of {one['lines']} lines ({name})"
        for name, one in record["ingredients"].items()
    )
    lines = [f"**Text**: ingredients are named right in {named}."]
    if sentences := record.get("sentences"):
        rows = [
            [f"{task}, {encoder}", *(f"{one[key]:.1f}" for key in ("medR", "R@1", "R@10"))]
            for encoder, tasks in sentences["encoders"].items()
            for task, one in tasks.items()
        ]
        lines[0] += f" Sentence vectors find, among {sentences['candidates']:,} candidates:"
        lines += ["", *markdown(("task, encoder", "medR", "R@1", "R@10"), rows)]
    return lines


def sample_hardness(record: Record) -> Lines:
    """Tell of `sample_hardness`: a trained run beside what colours alone and a wrong table give."""
    rows = [
        [name]
        + [
            cell
            for way in DIRECTIONS
            for cell in (
                f"{one[way]['medR']:.1f}",
                f"{one[way]['R@1']:.1f}"
                if name == "chance"
                else _share(one[way]["R@1"], record["items"]),
            )
        ]
        for name, one in record["rows"].items()
    ]
    header = ("ranked by", "medR", "R@1 [95 %]", "back: medR", "back: R@1")
    title = f"**The synthetic sample** ({record['data']}, {record['items']} test items):"
    return [title, "", *markdown(header, rows)]


def _share(percent: float, count: int) -> str:
    return figure_text(percent, recall_interval(percent, count))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _headline_pair(record: Record) -> Iterator[list[str]]:
    rows = next(iter(record["cases"].values()))["rows"]
    for row, what in ((rows[0], "as published"), (rows[-1], "from `tables`")):
        time, share = (
            f"{row['milliseconds']:.2f} ms",
            f"{100 * row['gemm_share']:.0f} % of the GEMM rate",
        )
        yield [
            f"One photo and one recipe, d = {record['width']}, {what}",
            time,
            share,
            "pair_scores",
        ]


def _headline_search(record: Record) -> Iterator[list[str]]:
    report = Report.parse(record)
    stages = report.table("stages-photo")
    assert stages is not None
    cells = {row.name: row.cells for row in stages.rows}
    total, cross = cells["total"]["p50"], cells["cross branch"]["limit"]
    assert total is not None
    assert cross is not None
    what = f"A photo's answer over {record['options']['sizes'][0]:,} recipes, d = 256"
    share = f"cross scores: {cross.value:.0f} % of the GEMM rate"
    yield [what, f"{total.value:.1f} ms", share, f"--setup {record['options']['setup']}"]


def _headline_engine(record: Record) -> Iterator[list[str]]:
    last, best = record["tables"]["growth"]["rows"][-1], record["tables"]["rerank"]["rows"][-1]
    share = f"{100 * best['gemm_share']:.0f} % of the GEMM rate"
    yield ["Ranking 200 recipes of real lengths, d = 1024", f"{best['ms']:.0f} ms", share, "engine"]
    time = f"{last['total_ms']:.0f} ms, {last['own_mb']:.0f} MB"
    yield [f"A photo's answer over {last['what']}, d = 256", time, "", "engine"]


def _headline_quality(record: Record) -> Iterator[list[str]]:
    best = next(method for method in record["methods"] if method["name"] == "best")
    ten = best["S"][DIRECTIONS[0]]["R@10"]
    value = f"{ten['value']:.1f} % [{ten['low']:.0f}, {ten['high']:.0f}]"
    yield [f"Right recipe among ten, of {record['test_pairs']}, real photos", value, "", "quality"]


def _headline_sample(record: Record) -> Iterator[list[str]]:
    one = record["rows"]["the run"][DIRECTIONS[0]]["R@1"]
    low, high = recall_interval(one, record["items"])
    what = f"Right recipe first, of {record['items']:,}, drawn photos"
    yield [what, f"{one:.0f} % [{low:.0f}, {high:.0f}]", "", "sample_hardness"]


COMMANDS = {
    "pair-scores": "hficma bench pair_scores",
    "bench-1k": "hficma bench --setup 1k",
    "bench-10k": "hficma bench --setup 10k",
    "branches": "hficma bench branches",
    "engine": "hficma bench engine",
    "training-step": "hficma bench training_step",
    "quality": "hficma bench quality",
    "sample-hardness": "hficma bench sample_hardness",
    "text-quality": "hficma bench text_quality",
}
"""By the name that a result's file begins with: what makes it, where the file does not say."""

PARTS: dict[str, tuple[tuple[str, Callable[[Record], Lines]], ...]] = {
    "pair": (("pair-scores", pair),),
    "growth": (("engine", growth),),
    "candidates": (("bench-1k", candidates),),
    "speed": (
        ("pair-scores", pair), ("bench-1k", search), ("bench-10k", search), ("branches", branches),
        ("engine", engine), ("training-step", training_step),
    ),
    "quality": (
        ("quality", quality), ("sample-hardness", sample_hardness), ("text-quality", text_quality),
    ),
}  # fmt: skip
"""By the name of a page's part: the benchmarks that it tells of, and how."""

HEADLINES: dict[str, Callable[[Record], Iterator[list[str]]]] = {
    "pair-scores": _headline_pair,
    "bench-10k": _headline_search,
    "engine": _headline_engine,
    "quality": _headline_quality,
    "sample-hardness": _headline_sample,
}
"""README's rows of a benchmark: what, how much, of which limit, measured by what."""
