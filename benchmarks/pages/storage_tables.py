"""What the pages tell of storage: tokens in each precision, and an index of a million recipes."""

from __future__ import annotations

from .tables import Lines, Record, table

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
