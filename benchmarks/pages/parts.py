"""The parts of the pages: of which benchmarks each tells, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from hficma.metrics import DIRECTIONS

from ..common.report import print_markdown, write_json
from ..common.timing import noise_warning
from .quality_tables import encoders, quality, sample_hardness, text_quality
from .speed_tables import branches, candidates, engine, gpu, pair, pair_costs, screening, search
from .storage_tables import scale, storage
from .tables import Lines, Record, share
from .training_tables import training_evaluation, training_rate, training_size, training_step

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


def headline(records: Mapping[str, Record]) -> list[list[str]]:
    """Return README's rows: what, how much, of which limit, measured by which benchmark.

    Args:
        records: of `pair-scores`, `engine`, `quality` and `sample-hardness`.
    """
    pairs = pair_costs(records["pair-scores"])
    tables = records["engine"]["tables"]
    ranking, (medium, large) = tables["rerank"]["rows"][-1], tables["growth"]["rows"][-2:]
    quality, drawn = records["quality"], records["sample-hardness"]
    best = next(method for method in quality["methods"] if method["name"] == "best")
    ten = "{value:.1f} % [{low:.0f}, {high:.0f}]".format_map(best["S"][DIRECTIONS[0]]["R@10"])
    first = share(drawn["rows"]["the run"][DIRECTIONS[0]]["R@1"], drawn["items"])

    def row(what: str, value: str, by: str, percent: float | None = None) -> Lines:
        limit = "" if percent is None else f"{percent:.0f} % of the GEMM rate"
        return [what, value, limit, by]

    cost, size = "One photo and one recipe, d = 1024", "Ranking 200 recipes, real lengths, d = 1024"
    return [
        *(
            row(f"{cost}, {form}", f"{one['milliseconds']:.2f} ms", "pair_scores",
                100 * one["gemm_share"])
            for one, form in (
                (pairs["published"], "as published"), (pairs["tables"], "from `tables`"),
            )
        ),
        row(size, f"{ranking['ms']:.0f} ms", "engine", 100 * ranking["gemm_share"]),
        *(
            row(f"{what} over {one['what']}, d = 256",
                f"{one['total_ms']:.0f} ms, {one['own_mb']:.0f} MB", "engine")
            for one, what in ((medium, "A photo's answer"), (large, "The same"))
        ),
        row(f"Right recipe among ten, of {quality['test_pairs']}, real photos, preset `best`", ten,
            "quality"),
        row(f"Right recipe first, of {drawn['items']:,}, drawn photos",
            first.replace(" [", " % ["), "sample_hardness"),
    ]  # fmt: skip


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
