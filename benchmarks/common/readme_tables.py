"""What the documentation tells of each benchmark's figures, as Markdown.

A table is a mapping from its columns' labels to format strings over a row's own keys, so that a
column is one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any

from hficma.metrics import DIRECTIONS, figure_text, recall_interval

from .report import Column, Figure, Report, cell_text, print_markdown, write_json
from .timing import NOISY, noise_warning

Record = Mapping[str, Any]
Lines = list[str]

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
_STEPS = {"step": "{name}", "seconds": "{seconds:.1f}", "peak MB": "{step_mb:,.0f}"}
_ALONE = {
    "workers": "{workers}",
    "photos a second": "{photos:,.0f}",
    "of workers x one core's decoding": "{share:.2f}",
    "of as many that only decode": "{share_at_once:.2f}",
}
_LEARNING = {
    "photos": "{size}",
    "fed by": "{feed}",
    "pairs a second": "{pairs:,.0f}{noise}",
    "of memory's": "{share:.2f}",
    "waiting": "{waiting:.2f}",
    "forward": "{forward:.2f}",
    "backward": "{backward:.2f}",
    "step": "{step:.2f}",
}
_SIZE = {
    "stage": "{name}",
    "pairs a second": "{pairs:,.0f}",
    "memory, MB": "{memory_mb:,.0f}",
    "mapped files, MB": "{mapped_mb:,.0f}",
    "processes": "{processes}",
}
_EVALUATION = {
    "stage": "{name}",
    "a second": "{pairs:,.0f}",
    "seconds": "{seconds:,.0f}",
    "memory, MB": "{memory_mb:,.0f}",
    "mapped files, MB": "{mapped_mb:,.0f}",
}
_GRAPHS = {
    "graph": "{branch}",
    "runtime": "{runtime} {precision}",
    "ms": "{milliseconds:.1f}{noise}",
}
_ENCODERS = {
    "of": "{name}",
    "encoder": "{encoder}",
    "precision": "{precision}",
    "MB": "{mb:.1f}",
    "ms, 1 item, 1 thread": "{milliseconds[1 x 1]:.2f}",
    "2 threads": "{milliseconds[2 x 1]:.2f}",
    "16 items, 1 thread": "{milliseconds[1 x 16]:.2f}",
    "16 items, 2 threads": "{milliseconds[2 x 16]:.2f}{noise}",
    "R@10": "{ten}",
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
        "a second": "{queries_a_second:.1f}",
        "ms a photo": "{total_ms:.1f}",
    },
}
"""Columns whose figures a record lacks, being of another version, are left out."""
_STORED = {
    "tokens in": "{precision}",
    "bytes, d = 256": "{narrow:,.0f}",
    "bytes, d = 1024": "{wide:,.0f}",
    "moved by %": "{moved:.2f}",
    "agree %": "{agree:.1f}",
    "R@10 %": "{r10:.1f}",
    "lost": "{lost:.1f}",
    "re-ranking, ms": "{rerank_ms:.1f}{noise}",
}
_NOT_STORED = {
    "tokens as": "{form}",
    "bytes, d = 256": "{narrow:,.0f}",
    "bytes, d = 1024": "{wide:,.0f}",
    "agree %": "{agree:.1f}",
    "R@10 %": "{r10:.1f}",
    "lost": "{lost:.1f}",
}
_BYTES = {"on disk": "{part}", "GB": "{gb:.2f}", "bytes a recipe": "{each:,.0f}"}
_OPENINGS = {
    "a process that serves": "{pages}",
    "opening, s": "{open_seconds:.2f}",
    "first answer, s": "{first_answer_seconds:.2f}",
    "memory of its own, MB": "{own_mb:,.0f}",
    "mapped files, MB": "{mapped_mb:,.0f}",
}
_SCALE = {
    "a search, pages": "{pages}",
    "prefilter, ms": "{prefilter_ms:.1f}",
    "re-ranking, ms": "{rerank_ms:.1f}",
    "records, ms": "{records_ms:.1f}",
    "p50, ms": "{total_ms:.0f}{noise}",
    "p99, ms": "{p99_ms:.0f}",
    "of processors, ms": "{processor_ms:.0f}",
}
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
    cells = []
    for row in rows:
        derived = {
            "noise": _noise(row.get("spread", 0.0)),
            "gemm": f"{100 * row.get('gemm_share', 0.0):.0f} %",
        }
        cells.append([form.format_map({**row, **derived}) for form in columns.values()])
    return markdown(list(columns), cells)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Return a table's lines, not aligned for the eye: a page is read rendered."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def _noise(spread: float) -> str:
    return f" ± {100 * spread:.0f} %" if spread > NOISY else ""


def _share(percent: float, count: int) -> str:
    return figure_text(percent, recall_interval(percent, count))


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
            return _share(figure.value, queries)
        return cell_text(figure, column) + _noise(figure.noise)

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
        record: of `pair_scores`; only those of later versions have rows of the kernels in C.
    """
    rows = {row["form"]: row for row in next(iter(record["cases"].values()))["rows"]}
    return {
        form: rows.get(f"{form}, native fp32", row) for form, row in rows.items() if "," not in form
    }


def training_step(record: Record) -> Lines:
    """Tell of `training_step`: seconds and memory of a batch of pairs."""
    rows = [{"name": name, **figures} for name, figures in record["figures"].items()]
    title = f"**A training step**, forward and backward over all pairs, d = {record['width']}"
    return [f"{title}; medians of {len(rows[0]['runs'])} run(s):", "", *table(_STEPS, rows)]


def training_rate(record: Record) -> Lines:
    """Tell of `hficma bench training`: pairs learnt a second, and the parts of a pair's time."""
    parts = record["milliseconds"]
    whole = sum(parts.values())
    shown = ", ".join(f"{name} {one:.2f}" for name, one in parts.items())
    # Earlier measurements have no such column.
    columns = {
        label: form
        for label, form in _ALONE.items()
        if "at_once" not in form or "share_at_once" in record["alone"][0]
    }
    lines = [
        f"**Reading**: one core takes {whole:.2f} ms for a stored photo of "
        f"{record['photo_kb']:.0f} KB ({shown}); decoding alone it does "
        f"{record['decoded']:,.0f} photos a second. Workers, without a model:",
        "",
        *table(columns, record["alone"]),
        "",
        f"**Learning**: `{record['preset']}` on {record['device']}, batches of {record['batch']}; "
        "milliseconds of a pair in each part of a step:",
        "",
        *table(_LEARNING, record["learning"]),
    ]
    return lines


def training_size(record: Record) -> Lines:
    """Tell of `hficma bench training --size`: memory and disk of a large dataset's epoch."""
    peak = max(stage["memory_mb"] for stage in record["stages"])
    return [
        f"**{record['size']:,} pairs** ({record['photos']:,} photos, repeated; "
        f"{record['sentences']:,} different sentences), `{record['preset']}`, "
        f"{record['workers']} worker(s); the process held {record['model_mb']:,.0f} MB with its "
        f"libraries and the model before, and all together {peak:,.0f} MB at most:",
        "",
        *table(_SIZE, record["stages"]),
        "",
        f"On disk: {record['disk_mb']:,.0f} MB, of the few photos alone: nothing is cached. Memory "
        "that processes share counts once; mapped files are what the system may drop.",
    ]


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


def training_evaluation(record: Record) -> Lines:
    """Tell of `hficma bench training --test-pairs`: time and memory of ranking all test pairs."""
    return [
        f"**{record['count']:,} test pairs** in one bag, `{record['preset']}` on "
        f"{record['device']}, random features; the process held {record['model_mb']:,.0f} MB "
        "before. S_local of all pairs, at the last line's rate, would take "
        f"{record['hours']:,.1f} hours (computed):",
        "",
        *table(_EVALUATION, record["stages"]),
    ]


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
            shared = set.intersection(*(set(row) for row in part["rows"])) | {"noise", "gemm"}
            columns = {
                label: form
                for label, form in _ENGINE[key].items()
                if {name for _, name, _, _ in Formatter().parse(form) if name} <= shared
            }
            lines += [f"**{part['title']}**:", "", *table(columns, part["rows"]), ""]
    return lines[:-1]


def storage(record: Record) -> Lines:
    """Tell of `storage`: what tokens take, lose and cost in each precision."""
    exact = record["rows"][0]["r10"]

    def rows(key: str) -> list[Record]:
        return [
            one
            | {"lost": exact - one["r10"]}
            | {"narrow": one["bytes"]["256"], "wide": one["bytes"]["1024"]}
            for one in record[key]
        ]

    return [
        f"**Stored tokens**: {record['photos']:,} photos, {record['recipes']:,} recipes of "
        f"{record['data']}; re-ranking 200 candidates at d = {record['timed_width']:,}:",
        "",
        *table(_STORED, rows("rows")),
        "",
        "**Forms that no index stores**, for the same photos and recipes:",
        "",
        *table(_NOT_STORED, rows("forms")),
    ]


def scale(record: Record) -> Lines:
    """Tell of `scale`: disk, opening, memory and searches of a large index."""
    count, sizes = record["recipes"], record["bytes"]
    parts = [*sizes.items(), ("all", sum(sizes.values()))]
    rows = [{"part": part, "gb": size / 1e9, "each": size / count} for part, size in parts]
    return [
        f"**{count:,} recipes**, d = {record['width']}, global vectors of {record['global_dim']}, "
        f"tokens in {record['precision']}, prefilter `{record['prefilter']}`:",
        "",
        *table(_BYTES, rows),
        "",
        *table(_OPENINGS, record["opening"]),
        "",
        f"From an encoded photo to ten recipes, {record['candidates']} candidates, "
        f"{record['queries']} photos a row:",
        "",
        *table(_SCALE, record["searches"]),
        "",
        f"Of an exact scan's {record['candidates']} best, the prefilter gives "
        f"{record['recall']:.2f} %; {record['certified']:.0f} % of the first ten ranks are "
        "certified, of a model of random weights.",
    ]


def encoders(record: Record) -> Lines:
    """Tell of `encoders`: a line for each encoder in each precision, with its method's R@10."""
    rows = [
        row | {"ten": "–" if row["recall"] is None else f"{row['recall']:.1f}"}
        for row in record["rows"]
    ]
    return [
        f"**Encoders**: photos, and texts of {record['words']} tokens, in onnxruntime; R@10 is of "
        "the method that an encoder is part of.",
        "",
        *table(_ENCODERS, rows),
    ]


def quality(record: Record) -> Lines:
    """Tell of `quality`: every loss and system on the test pairs."""
    count, rows = record["test_pairs"], []
    for method in record["methods"]:
        photo, recipe = (method["S"][direction] for direction in DIRECTIONS)
        rows.append(
            method
            | {"photo": photo, "recipe": recipe, "ten": photo["R@10"]}
            | {
                "over": photo["R@10"]["against_baseline"],
                "alone": method["S_global"][DIRECTIONS[0]],
            }
        )
    learnt = f"{record['training_pairs']:,} to learn from, " if "training_pairs" in record else ""
    return [
        f"**{record['title']}**: {learnt}{count} test pairs as one bag, photo to recipe and back; "
        "means over seeds, 95 % intervals over queries, differences paired. Chance is medR "
        f"{(count + 1) / 2:.0f} and R@10 {1000 / count:.1f}.",
        "",
        *table(_METHODS, rows),
        "",
        *(f"* {one['name']}: {one['note']}." for one in record["methods"] if one["note"]),
    ]


def text_quality(record: Record) -> Lines:
    """Tell of `text_quality`: ingredients found, and what sentence vectors know."""
    accuracies = " and ".join(
        f"{_share(one['accuracy'], one['lines'])} % of {one['lines']} lines ({name})"
        for name, one in record["ingredients"].items()
    )
    lines = [f"**Text**: ingredients are named right in {accuracies}."]
    if sentences := record.get("sentences"):
        tasks = [
            {"task": f"{task}, {encoder}", **figures}
            for encoder, encoder_tasks in sentences["encoders"].items()
            for task, figures in encoder_tasks.items()
        ]
        lines[0] += f" Sentence vectors find, among {sentences['candidates']:,} candidates:"
        lines += ["", *table(_TASKS, tasks)]
    return lines


def sample_hardness(record: Record) -> Lines:
    """Tell of `sample_hardness`: a trained run beside what colours alone and a wrong table give."""
    rows = []
    for name, one in record["rows"].items():
        firsts = [one[direction]["R@1"] for direction in DIRECTIONS]
        # Chance is a number, of which no query can be drawn otherwise.
        shares = [f"{r:.1f}" if name == "chance" else _share(r, record["items"]) for r in firsts]
        rows.append({"name": name, "photo": shares[0], "recipe": shares[1], **one})
    title = f"**The synthetic sample** ({record['data']}, {record['items']} test items):"
    return [title, "", *table(_RANKED, rows)]


def headline(records: Mapping[str, Record]) -> list[list[str]]:
    """Return README's rows: what, how much, of which limit, measured by which benchmark.

    Args:
        records: of `pair-scores`, `bench-10k`, `engine`, `quality` and `sample-hardness`.
    """
    pairs = pair_costs(records["pair-scores"])
    ranking, large = (records["engine"]["tables"][key]["rows"][-1] for key in ("rerank", "growth"))
    stages = Report.parse(records["bench-10k"]).table("stages-photo")
    assert stages is not None
    cells = {row.name: row.cells for row in stages.rows}
    total, cross = cells["total"]["p50"], cells["cross branch"]["limit"]
    assert total is not None
    assert cross is not None
    quality, drawn = records["quality"], records["sample-hardness"]
    best = next(method for method in quality["methods"] if method["name"] == "best")
    ten = "{value:.1f} % [{low:.0f}, {high:.0f}]".format_map(best["S"][DIRECTIONS[0]]["R@10"])
    first = _share(drawn["rows"]["the run"][DIRECTIONS[0]]["R@1"], drawn["items"])

    def row(what: str, value: str, by: str, percent: float | None = None, where: str = "") -> Lines:
        limit = "" if percent is None else f"{percent:.0f} % of the GEMM rate{where}"
        return [what, value, limit, by]

    cost, size = "One photo and one recipe, d = 1024", "Ranking 200 recipes, real lengths, d = 1024"
    answer = "A photo's answer over 10,000 recipes, d = 256"
    return [
        *(
            row(f"{cost}, {form}", f"{one['milliseconds']:.2f} ms", "pair_scores",
                100 * one["gemm_share"])
            for one, form in (
                (pairs["published"], "as published"), (pairs["tables"], "from `tables`"),
            )
        ),
        row(size, f"{ranking['ms']:.0f} ms", "engine", 100 * ranking["gemm_share"]),
        row(answer, f"{total.value:.1f} ms", "--setup 10k", cross.value, ", where scoring"),
        row(f"The same over {large['what']}",
            f"{large['total_ms']:.0f} ms, {large['own_mb']:.0f} MB", "engine"),
        row(f"Right recipe among ten, of {quality['test_pairs']}, real photos, preset `best`", ten,
            "quality"),
        row(f"Right recipe first, of {drawn['items']:,}, drawn photos",
            first.replace(" [", " % ["), "sample_hardness"),
    ]  # fmt: skip


def gpu(record: Record) -> Lines:
    """Tell of `gpu`: all of a run's tables, those of what was not measured too."""
    report = Report.parse(record)
    lines = [f"* {figure} {what}" for figure, what in report.headline]
    for table in report.tables:
        lines += ["", f"**{table.title}.** {table.note}", "", *table.markdown()]
    return [*lines, "", *(f"* {note}" for note in report.notes)]


PARTS: dict[str, Mapping[str, Callable[[Record], Lines]]] = {
    "pair": {"pair-scores": partial(pair, cases=1, brief=True)},
    "growth": {"engine": partial(engine, parts=("growth",))},
    "candidates": {"bench-1k": candidates},
    "speed": {
        "pair-scores": pair,
        "bench-1k": search,
        "bench-10k": search,
        "branches": branches,
        "engine": engine,
        "training-step": training_step,
    },
    "screening": {"screening": screening},
    "training": {
        "training-rate": training_rate,
        "training-size": training_size,
        "training-evaluation": training_evaluation,
    },
    "storage": {"storage": storage},
    "scale": {"scale": scale},
    "gpu": {"gpu": gpu},
    "quality": {
        "quality": quality,
        "photos": quality,
        "encoders": encoders,
        "sample-hardness": sample_hardness,
        "text-quality": text_quality,
    },
}
"""By the name of a page's part: the benchmarks that it tells of, and how."""
RESULT_PARTS = ("speed", "screening", "gpu", "training", "storage", "scale", "quality")
"""Parts that together tell of every benchmark with a committed result, in the order of the pages;
the other parts tell of some again."""


def publish(
    benchmark: str, record: Record, file: Path | None, spreads: Iterable[float] = (0.0,)
) -> None:
    """Print a benchmark's record as the pages tell of it, and write it where a file was named.

    Args:
        benchmark: as its result is named.
        record: JSON values.
        file: None writes nothing.
        spreads: of what was timed; a noisy machine is told.
    """
    writers = {name: writer for key in RESULT_PARTS for name, writer in PARTS[key].items()}
    lines = [*writers[benchmark](record), noise_warning(spreads)]
    print_markdown("\n".join(lines))
    write_json(file, record)
