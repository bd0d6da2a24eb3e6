"""Commands of runs and bundles: train, eval, compare, extract, convert, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...artifacts.workspace import Workspace, undated_name
from ...errors import InputError
from ..console import Bars, hint, note, print_json, stdout, table
from ..process_settings import quiet_exporter
from ..quantities import parsed_bytes, readable_bytes

if TYPE_CHECKING:
    from hficma.training.comparison import EvaluationRanking

# Options that several of the commands have.
Run = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="A run: its name in the workspace, or its path.",
        show_default="the newest",
    ),
]
Data = Annotated[str | None, typer.Option(help="A JSONL file, a dataset directory, or sample:N.")]


def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the preset.")
    ] = None,
    preset: Annotated[str, typer.Option(help="A preset's name or a YAML file.")] = "hf-icma-small",
    data: Data = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Where the run goes: a name in the workspace, or a path.",
            show_default="the preset's name and the date",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run.")] = False,
    hold_out: Annotated[
        str | None,
        typer.Option(help="Pairs to keep out as test pairs: 10% or a number.", show_default="none"),
    ] = None,
    cache_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Photos that would take more in the cache are read in every epoch: 40GB.",
            show_default="half of the free disk",
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="GPUs to learn on, a process each.", show_default="one"),
    ] = None,
) -> None:
    """Train a model; with no argument, a small one on the synthetic sample.

    Example, on your own pairs: hficma train --preset best --data recipes.jsonl
    --hold-out 10% trunk.weights=torchvision

    That downloads an image encoder once; a file of its weights may stand there instead. Word
    vectors are learnt first, which takes two minutes, sentence vectors twenty.
    """
    from hficma.training import train as start
    from hficma.training.parallel.distributed import is_first
    from hficma.training.runs.run import RunDirectory

    workspace = Workspace.default()
    overrides = list(overrides or ())
    if cache_limit is not None:
        overrides.append(f"loader.cache_limit={int(parsed_bytes(cache_limit))}")
    with Bars() as bars:
        path = start(
            preset, overrides, data=data, resume=resume, hold_out=hold_out,
            run=None if run is None else workspace.resolve("run", run), devices=_devices(devices),
            workspace=workspace, progress=bars,
        )  # fmt: skip
    if not is_first():
        return  # of several processes that another program started
    stdout.print_line(f"run: {path}")
    stdout.print_prose(RunDirectory.open(path).outcome)
    hint("next:", "export")


def _devices(text: str | None) -> int | Literal["all"] | None:
    """Return how many devices an option's text says."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal():
        raise InputError(f"--devices {text}: give a number, or all")
    return int(text)


def evaluate(
    run: Run = None,
    data: Data = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    setup: Annotated[
        Literal["1k", "10k", "all"], typer.Option(help="Bags of 1,000 or 10,000, or one of all.")
    ] = "1k",
    prefilter: Annotated[
        int | None, typer.Option(min=1, help="Also score only the top K by S_global.")
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option(
            help="Crops of a photo whose vectors are averaged: 1 or 5.", show_default="the model's"
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures; - prints them.")
    ] = None,
) -> None:
    """Recall of a run in both directions: medR, R@1, R@5, R@10 over bags.

    Example: hficma eval --setup 1k
    """
    from hficma.training import evaluate as measure
    from hficma.training.parallel.device import pick_device
    from hficma.training.scoring import block_scores

    scorer = block_scores
    if pick_device("auto").type == "cuda":
        from hficma.engine.gpu.exhaustive import kernel_block_scores

        scorer = kernel_block_scores
    with Bars() as bars:
        evaluation = measure(
            _run_path(run), data, split, setup,
            prefilter=prefilter, crops=crops, progress=bars, scorer=scorer,
        )  # fmt: skip
    if json_file is not None and str(json_file) == "-":
        print_json(evaluation.to_json())
        return
    if json_file is not None:
        json_file.write_text(json.dumps(evaluation.to_json(), indent=1), encoding="utf-8")
    bags = f"{evaluation.bag_count} x {evaluation.bag_size} of {evaluation.items}"
    title = f"{evaluation.dataset} {evaluation.split}: {bags}"
    columns = ("direction", "scored by", "medR", "R@1", "R@5", "R@10")
    stdout.print(table(title, columns, [line for row in evaluation.rows() for line in _lines(row)]))
    for line in evaluation.notes:
        note(line)


def _lines(row: list[str]) -> list[list[str]]:
    """Return a row of figures, their intervals in a line below: 80 columns hold no more."""
    parts = [cell.partition(" [") for cell in row]
    figures, ends = [part[0] for part in parts], [part[2].rstrip("]") for part in parts]
    below = ["", "95 % from, to", *ends[2:]]
    return [figures, below] if any(ends) else [figures]


def calibrate(
    run: Run = None,
    data: Annotated[
        str | None, typer.Option(help="The pairs that the run learnt from; its own.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Models to train.")] = 5,
) -> None:
    """Learn how sure a run's answers are, from pairs that its like had not seen.

    Trains a model on all folds of the pairs but one, for each in turn: five trainings. What they
    tell goes into the run, and into bundles that are exported afterwards.

    Example: hficma calibrate
    """
    from hficma.training import calibrate as learn

    path = _run_path(run)
    with Bars() as bars:
        facts = learn(path, data, folds=folds, progress=bars)
    stdout.print_line(f"calibrated: {path}, on {facts.pairs:,} pairs in {facts.folds} folds")
    hint("next:", "export")


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Runs: their names in the workspace, or their paths.")
    ],
    metric: Annotated[str, typer.Option(help="A figure of the log.")] = "recall_sum",
    page: Annotated[Path | None, typer.Option(help="Write overlaid curves here.")] = None,
) -> None:
    """Rank runs by a figure of validation and of test pairs, with what differs in their options.

    Figures of test pairs are those that `hficma eval` left in the runs.

    Example: hficma compare muon adam --metric R@1
    """
    from hficma.training import compare as rank

    from ...metrics import figure_text

    workspace = Workspace.default()
    paths = [workspace.resolve("run", run) for run in runs]
    comparison = rank(paths, metric, page=page)
    if comparison.rows:
        rows = [
            [
                str(r.place), r.run,
                f"{r.score:.4g}" if r.interval is None else figure_text(r.score, r.interval),
                "" if r.queries is None else str(r.queries), f"{r.epoch}, best of {r.validations}",
            ]
            for r in comparison.rows
        ]  # fmt: skip
        columns = ("place", "run", "score [95 %]", "n", "epoch")
        stdout.print(table(f"{metric}, validation pairs", columns, rows))
        note(
            "each the best of its validated epochs, so on the high side; n: validation pairs; runs "
            "within each other's intervals are not told apart; `hficma eval` measures on test pairs"
        )
    if comparison.not_validated:
        note(f"never validated: {', '.join(comparison.not_validated)}")
    for ranking in comparison.tests:
        _print_evaluations(ranking, metric)
    if not comparison.tests:
        note("no run has figures of test pairs: `hficma eval --run RUN` measures them, per run")
    names = list(next(iter(comparison.differences.values()), {}))
    differing = [
        [option, *(str(values.get(name, "")) for name in names)]
        for option, values in comparison.differences.items()
    ]
    if differing:
        stdout.print(table("options that differ", ("option", *names), differing))
    if comparison.curves:
        stdout.print_line(f"curves: {comparison.curves}")


def _print_evaluations(ranking: EvaluationRanking, metric: str) -> None:
    """Print runs by their figures on the same test pairs, and which runs have none."""
    from ...metrics import figure_text

    pairs = ranking.pairs
    title = f"{metric}, test pairs of {pairs.dataset}: {pairs.bag_count} x {pairs.bag_size}"
    rows = [
        [
            str(r.place), r.run,
            figure_text(r.score, r.interval)
            if r.deviation is None else f"{r.score:.1f} ± {r.deviation:.1f}",
            "" if r.epoch is None else str(r.epoch),
        ]
        for r in ranking.rows
    ]  # fmt: skip
    columns = ("place", "run", "score [95 %] or ± over bags", "epoch")
    stdout.print(table(f"{title} of {pairs.items}", columns, rows))
    for run in ranking.missing:
        note(
            f"{run.name}: has no such figures of its present weights; "
            f"`hficma eval --run {run} --setup {pairs.setup}` measures them"
        )


def extract(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    run: Run = None,
    data: Data = None,
    images: Annotated[Path | None, typer.Option(help="A folder of photos instead.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; all without.")] = None,
) -> None:
    """Write a dataset's embeddings and tokens as safetensors.

    Example: hficma extract --images photos/ --out photos.safetensors
    """
    from hficma.training import extract as write

    with Bars() as bars:
        path = write(
            _run_path(run), out, data=data, images=images, split=split, progress=bars,
        )  # fmt: skip
    stdout.print_line(f"features: {path}")


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="model_e*.pth.tar, ckpt_*_model.pth.tar, or CLIP's or SigLIP's folder."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run to write.")],
    vocabulary: Annotated[
        Path | None, typer.Option(help="A checkpoint's: vocab.txt, vocab.bin or vocab.pkl.")
    ] = None,
    keep_off_by_two: Annotated[
        bool, typer.Option(help="Leave the table's rows where training used them.")
    ] = True,
    sentences: Annotated[Path | None, typer.Option(help="Vectors with a sentence encoder.")] = None,
    backbone: Annotated[str, typer.Option(help="The checkpoint's image encoder.")] = "resnet50",
) -> None:
    """Make a run of a published checkpoint or of a CLIP's folder, running no code in it.

    Example: hficma convert model_e060_v-1.000.pth.tar --vocabulary vocab.txt --out runs/published
    """
    from hficma.training.convert import convert as read
    from hficma.training.runs.convert_dual import convert_dual

    if checkpoint.is_dir():
        dual = convert_dual(checkpoint, out)
        stdout.print_line(
            f"run: {out} ({dual.kind}, vectors of {dual.global_dim}; of a recipe its title and "
            f"ingredients are read, up to {dual.tokens} tokens)"
        )
        return
    if vocabulary is None:
        raise InputError(
            f"{checkpoint}: a checkpoint needs the words of its training: --vocabulary"
        )
    conversion = read(
        checkpoint, out, vocabulary=vocabulary, keep_off_by_two=keep_off_by_two,
        sentences=sentences, backbone=backbone,
    )  # fmt: skip
    stdout.print_line(
        f"run: {out} ({conversion.kind}, {conversion.words} words, "
        f"sentence encoder {conversion.sentence_encoder})"
    )


def export(
    run: Run = None,
    out: Annotated[Path | None, typer.Option(help="The bundle to write.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16, bf16 or int8; may be repeated.")
    ] = None,
    weight_only: Annotated[
        bool,
        typer.Option("--weight-only", help="int8 rounds weights alone: as small, exact, slower."),
    ] = False,
    trt: Annotated[bool, typer.Option("--trt", help="Build TensorRT engines too.")] = False,
    local_limit: Annotated[
        float | None,
        typer.Option(help="The most that S_local counts in S.", show_default="the model's"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Calibrate and prove on these pairs; the run's own.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Verify this bundle here instead of making one.")
    ] = None,
    slim: Annotated[
        Path | None, typer.Option(help="Cut this bundle down to one precision instead.")
    ] = None,
) -> None:
    """Compile a run's branches into a bundle, and prove them equal to the model.

    Example: hficma export --precision fp16 --precision int8
    """
    from hficma.export import export_run

    workspace = Workspace.default()
    if check is not None:
        from hficma.export import check_bundle

        differences = check_bundle(check)
        rows = [
            [f"{d.graph} {d.output}", d.runtime, d.precision, f"{d.max:.1e}", f"{d.mean:.1e}"]
            for d in differences
        ]
        if not differences:
            stdout.print_line(f"{check}: every file is as it was made; slim, so proved beforehand")
            return
        columns = ("output", "runtime", "precision", "largest difference", "mean")
        stdout.print(table(f"{check}: every file and graph is as it was made", columns, rows))
        return
    if slim is not None:
        from hficma.export import slim_bundle

        if precision is not None and len(precision) != 1:
            raise InputError(f"--precision {' '.join(precision)}: a slim bundle has one precision")
        whole = workspace.resolve("bundle", str(slim))
        target = out or workspace.new("bundle", f"{undated_name(whole)}-slim")
        path = slim_bundle(whole, target, precision=precision[0] if precision else None)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        stdout.print_line(f"bundle: {path} ({readable_bytes(size)})")
        return
    if weight_only and "int8" not in (precision or ()):
        raise InputError("--weight-only: says what int8 is; give --precision int8 too")
    if trt:
        from hficma.export import check_tensorrt

        # Before anything is compiled: an export takes minutes, and this error a second.
        check_tensorrt(precision or ("fp32",))
    run_path = _run_path(run)
    with Bars() as bars, quiet_exporter():
        bars.stage("compiling the branches and proving them equal")
        path = export_run(
            run_path,
            out or workspace.new("bundle", undated_name(run_path)),
            precisions=precision or ("fp32",),
            data=data,
            weight_only=weight_only,
            local_limit=local_limit,
        )
    stdout.print_line(f"bundle: {path}")
    if trt:
        from hficma.export import build_plans

        for name in precision or ("fp32",):
            build_plans(path, precision=name, on_build=note)
    hint("next:", "index")


def _run_path(run: str | None) -> Path:
    """Return the directory of the run that a user named, or of the newest."""
    workspace = Workspace.default()
    return workspace.newest("run") if run is None else workspace.resolve("run", run)
