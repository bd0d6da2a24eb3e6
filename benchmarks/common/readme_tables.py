"""What the documentation tells of each benchmark's figures, as Markdown.

A table is a mapping from its columns' labels to format strings over a row's own keys, so that a
column is one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from hficma.metrics import DIRECTIONS, figure_text, recall_interval

from .report import Report, Table, cell_text
from .timing import NOISY

Record = Mapping[str, Any]
Lines = list[str]

_FORMS = {
    "form": "{form}",
    "ms a pair": "{milliseconds:.2f}{noise}",
    "M mult-adds": "{multiply_adds:.0f}",
    "of the GEMM rate": "{gemm}",
    "kept a recipe": "{kept_kb:,.0f} KB",
}
_STEPS = {"step": "{name}", "seconds": "{seconds:.1f}", "peak MB": "{step_mb:,.0f}"}
_GRAPHS = {
    "graph": "{branch}",
    "runtime": "{runtime} {precision}",
    "ms": "{milliseconds:.1f}{noise}",
}
_GROWTH = {
    "": "{what}",
    "a search, ms": "{total_ms:.1f}",
    "prefilter, ms": "{prefilter_ms:.2f}",
    "opening, s": "{open_s:.3f}",
    "memory, MB": "{own_mb:,.0f}",
    "disk, MB": "{disk_mb:,.0f}",
}
_RERANK = {
    "": "{what}",
    "ms": "{ms:.1f}{noise}",
    "published, ms": "{published_ms:,.0f}",
    "of the GEMM rate": "{gemm}",
}
_BATCH = {"": "{what}", "a second": "{queries_a_second:.1f}", "ms a photo": "{total_ms:.1f}"}
_METHODS = {
    "method": "{name}",
    "medR": "{photo[medR][value]:.1f}",
    "R@1": "{photo[R@1][value]:.1f}",
    "R@10 [95 %]": "{ten[value]:.1f} [{ten[low]:.0f}, {ten[high]:.0f}]",
    "over the first": "{over[value]:+.1f} [{over[low]:+.0f}, {over[high]:+.0f}]",
    "R@10, S_global alone": "{alone[R@10][value]:.1f}",
    "back: medR": "{recipe[medR][value]:.1f}",
    "back: R@10": "{recipe[R@10][value]:.1f}",
    "seeds": "{seeds}",
}
_TASKS = {"task, encoder": "{task}", "medR": "{medR:.1f}", "R@1": "{R@1:.1f}", "R@10": "{R@10:.1f}"}
_RANKED = {
    "ranked by": "{name}",
    "medR": "{image_to_recipe[medR]:.1f}",
    "R@1 [95 %]": "{photo}",
    "back: medR": "{recipe_to_image[medR]:.1f}",
    "back: R@1": "{recipe}",
}


def table(columns: Mapping[str, str], rows: Iterable[Record]) -> Lines:
    """Return a table whose first column is text and whose others are figures.

    Args:
        columns: label to a format string over a row's keys; `gemm` is the share of the rate of
            matrix products, `noise` what a time must carry that moved too much between rounds.
        rows: as benchmarks write them.
    """
    told = [
        {
            **row,
            "noise": _noise(row.get("spread", 0.0)),
            "gemm": _percent(row.get("gemm_share", 0.0)),
        }
        for row in rows
    ]
    cells = [[form.format_map(row) for form in columns.values()] for row in told]
    return markdown(list(columns), cells)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def _noise(spread: float) -> str:
    return f" ± {100 * spread:.0f} %" if spread > NOISY else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _share(percent: float, count: int) -> str:
    return figure_text(percent, recall_interval(percent, count))


def search(record: Record) -> Lines:
    """Tell of `hficma bench`: latency and recall, stages, and other ways to the same."""
    report, options = Report.parse(record), record["options"]
    queries = min(options["rounds"] * options["queries_a_round"], *options["sizes"])
    lines = [f"**A search**: {report.title}.", ""]
    lines += _columns(report.table("choices"), ("p50", "r10", "agreement", "certified"), queries)
    lines += ["", f"{queries:,} photos asked; [95 %] over them; ±: rounds moved by over 15 %.", ""]
    lines += _columns(report.table("stages-photo"), ("p50", "work", "bytes", "limit"), queries)
    if others := _columns(
        report.table("others"), ("p50", "rerank", "R@10"), options["exact_queries"]
    ):
        lines += ["", "Other ways, for the same photos; 100 candidates are re-ranked:", "", *others]
    return [*lines, "", *(f"* {note[0].upper()}{note[1:]}." for note in report.notes)]


def candidates(record: Record) -> Lines:
    """Tell how candidates trade time for agreement, of the first kind of index."""
    choices = Report.parse(record).table("choices")
    assert choices is not None
    kind = choices.rows[0].name.rpartition(", ")[0]
    return _columns(choices, ("p50", "agreement", "certified"), 0, only=f"{kind}, ")


def _columns(table: Table | None, keys: Sequence[str], queries: int, *, only: str = "") -> Lines:
    """Some columns of a report's table, recalls of one bag with their interval over queries."""
    if table is None:
        return []
    columns = [column for column in table.columns if column.key in keys]
    rows = []
    for row in table.rows:
        if row.name.startswith(only):
            rows.append([row.name])
            for column in columns:
                figure = row.cells.get(column.key)
                if figure and column.key.upper() in ("R10", "R@10") and figure.spread is None:
                    rows[-1].append(_share(figure.value, queries))
                else:
                    noise = _noise(figure.noise) if figure else ""
                    rows[-1].append(cell_text(figure, column) + noise)
    return markdown([table.first, *(column.label for column in columns)], rows)


def pair(record: Record, cases: int | None = None) -> Lines:
    """Tell of `pair_scores`: what one pair's S_local costs, in so many of its cases."""
    lines = []
    for title, case in list(record["cases"].items())[:cases]:
        largest = max(row["difference"] for row in case["rows"])
        lines += [
            f"**A pair's S_local**: {title}, d = {record['width']}; scores differ by at most "
            f"{largest:.0e}.",
            "",
        ]
        lines += [*table(_FORMS, case["rows"]), ""]
    return lines[:-1]


def training_step(record: Record) -> Lines:
    """Tell of `training_step`: seconds and memory of a batch of pairs."""
    rows = [{"name": name, **figures} for name, figures in record["figures"].items()]
    title = f"**A training step**, forward and backward over all pairs, d = {record['width']}"
    return [f"{title}; medians of {len(rows[0]['runs'])} run(s):", "", *table(_STEPS, rows)]


def branches(record: Record) -> Lines:
    """Tell of `branches`: a line for each compiled graph in each runtime and precision."""
    model, export = record["model"], record["export"]
    sizes = ", ".join(f"{size:.0f} MB in {name}" for name, size in record["graphs_mb"].items())
    lines = [f"**Graphs** of {model['kind']} with {model['backbone']}, d = {model['width']}:", ""]
    lines += [*table(_GRAPHS, record["rows"]), "", f"They take {sizes}."]
    if export:
        lines[-1] += f" Export took {export['seconds']:.0f} s, at most {export['peak_mb']:,.0f} MB."
    return lines


def growth(record: Record) -> Lines:
    """Tell how a search grows with the index, by `engine`."""
    return _part(record, "growth", _GROWTH)


def engine(record: Record) -> Lines:
    """Tell of `engine`: growth, re-ranking and batches."""
    parts = (growth(record), _part(record, "rerank", _RERANK), _part(record, "batch", _BATCH))
    return [line for part in parts if part for line in (*part, "")][:-1]


def _part(record: Record, key: str, columns: Mapping[str, str]) -> Lines:
    part = record["tables"].get(key)
    return [f"**{part['title']}**:", "", *table(columns, part["rows"])] if part else []


def quality(record: Record) -> Lines:
    """Tell of `quality`: every loss and system on the test pairs."""
    count, rows = record["test_pairs"], []
    for one in record["methods"]:
        photo, recipe = (one["S"][direction] for direction in DIRECTIONS)
        ten, alone = photo["R@10"], one["S_global"][DIRECTIONS[0]]
        parts = {"photo": photo, "recipe": recipe, "ten": ten, "over": ten["against_baseline"]}
        rows.append({**one, **parts, "alone": alone})
    return [
        f"**{record['title']}**: {count} test pairs as one bag, photo to recipe and back; means "
        "over seeds, 95 % intervals over queries, differences paired. Chance is medR "
        f"{(count + 1) / 2:.0f} and R@10 {1000 / count:.1f}.",
        "",
        *table(_METHODS, rows),
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
        tasks = [
            {"task": f"{task}, {encoder}", **figures}
            for encoder, all_tasks in sentences["encoders"].items()
            for task, figures in all_tasks.items()
        ]
        lines[0] += f" Sentence vectors find, among {sentences['candidates']:,} candidates:"
        lines += ["", *table(_TASKS, tasks)]
    return lines


def sample_hardness(record: Record) -> Lines:
    """Tell of `sample_hardness`: a trained run beside what colours alone and a wrong table give."""
    rows = []
    for name, one in record["rows"].items():
        firsts = [one[direction]["R@1"] for direction in DIRECTIONS]
        shares = [f"{r:.1f}" if name == "chance" else _share(r, record["items"]) for r in firsts]
        rows.append({"name": name, "photo": shares[0], "recipe": shares[1], **one})
    title = f"**The synthetic sample** ({record['data']}, {record['items']} test items):"
    return [title, "", *table(_RANKED, rows)]


def headline(records: Mapping[str, Record]) -> Iterator[list[str]]:
    """Yield README's rows: what, how much, of which limit, measured by which benchmark.

    Args:
        records: of `pair-scores`, `bench-10k`, `engine`, `quality` and `sample-hardness`.
    """
    pairs = next(iter(records["pair-scores"]["cases"].values()))["rows"]
    for row, form in ((pairs[0], "as published"), (pairs[-1], "from `tables`")):
        what = f"One photo and one recipe, d = 1024, {form}"
        share = f"{_percent(row['gemm_share'])} of the GEMM rate"
        yield [what, f"{row['milliseconds']:.2f} ms", share, "pair_scores"]
    ranking = records["engine"]["tables"]["rerank"]["rows"][-1]
    share = f"{_percent(ranking['gemm_share'])} of the GEMM rate"
    yield [
        "Ranking 200 recipes, real lengths, d = 1024",
        f"{ranking['ms']:.0f} ms",
        share,
        "engine",
    ]
    stages = Report.parse(records["bench-10k"]).table("stages-photo")
    assert stages is not None
    values = {
        (row.name, key): cell.value
        for row in stages.rows
        for key, cell in row.cells.items()
        if cell
    }
    share = f"{values['cross branch', 'limit']:.0f} % of the GEMM rate, where scoring"
    time = f"{values['total', 'p50']:.1f} ms"
    yield ["A photo's answer over 10,000 recipes, d = 256", time, share, "--setup 10k"]
    large = records["engine"]["tables"]["growth"]["rows"][-1]
    time = f"{large['total_ms']:.0f} ms, {large['own_mb']:.0f} MB"
    yield [f"The same over {large['what']}", time, "", "engine"]
    best = next(method for method in records["quality"]["methods"] if method["name"] == "best")
    ten = best["S"][DIRECTIONS[0]]["R@10"]
    value = f"{ten['value']:.1f} % [{ten['low']:.0f}, {ten['high']:.0f}]"
    yield [
        f"Right recipe among ten, of {records['quality']['test_pairs']}, real photos",
        value,
        "",
        "quality",
    ]
    drawn = records["sample-hardness"]
    value = _share(drawn["rows"]["the run"][DIRECTIONS[0]]["R@1"], drawn["items"])
    value = value.replace(" [", " % [")
    yield [f"Right recipe first, of {drawn['items']:,}, drawn photos", value, "", "sample_hardness"]


PARTS: dict[str, Mapping[str, Callable[[Record], Lines]]] = {
    "pair": {"pair-scores": partial(pair, cases=1)},
    "growth": {"engine": growth},
    "candidates": {"bench-1k": candidates},
    "speed": {
        "pair-scores": pair,
        "bench-1k": search,
        "bench-10k": search,
        "branches": branches,
        "engine": engine,
        "training-step": training_step,
    },
    "quality": {
        "quality": quality,
        "sample-hardness": sample_hardness,
        "text-quality": text_quality,
    },
}
"""By the name of a page's part: the benchmarks that it tells of, and how."""
