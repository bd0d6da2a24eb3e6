"""What the pages tell of training: a step, the pairs a second, a dataset of its full size."""

from __future__ import annotations

from .tables import Lines, Record, table

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
    return [
        f"**Reading**: one core takes {whole:.2f} ms for a stored photo of "
        f"{record['photo_kb']:.0f} KB ({shown}); decoding alone it does "
        f"{record['decoded']:,.0f} photos a second. Workers, without a model:",
        "",
        *table(_ALONE, record["alone"]),
        "",
        f"**Learning**: `{record['preset']}` on {record['device']}, batches of {record['batch']}; "
        "milliseconds of a pair in each part of a step:",
        "",
        *table(_LEARNING, record["learning"]),
    ]


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
