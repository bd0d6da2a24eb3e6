"""Commands that make runs, and something of them: train, calibrate, extract, convert, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...artifacts.workspace import Workspace, undated_name
from ...errors import InputError
from ..console import Bars, hint, note, stdout, table
from ..process_settings import quiet_exporter
from ..quantities import parsed_bytes, readable_bytes
from ..run_options import Data, Run, run_directory


def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Options of the preset.")
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


def calibrate(
    run: Run = None,
    data: Annotated[
        str | None,
        typer.Option(help="The pairs that the run learnt from.", show_default="the run's own"),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Models to train.")] = 5,
) -> None:
    """Learn how sure a run's answers are, from pairs that models like it had not seen.

    Trains a model on all folds of the pairs but one, for each in turn: five trainings. What they
    tell goes into the run, and into bundles that are exported afterwards.

    Example: hficma calibrate
    """
    from hficma.training import calibrate as learn

    path = run_directory(run)
    with Bars() as bars:
        facts = learn(path, data, folds=folds, progress=bars)
    stdout.print_line(f"calibrated: {path}, on {facts.pairs:,} pairs in {facts.folds} folds")
    hint("next:", "export")


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
            run_directory(run), out, data=data, images=images, split=split, progress=bars,
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
        str | None,
        typer.Option(help="Pairs to calibrate and prove on.", show_default="the run's own"),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Verify this bundle here instead of making one.")
    ] = None,
    slim: Annotated[
        Path | None, typer.Option(help="Cut this bundle down to one precision instead.")
    ] = None,
) -> None:
    """Compile a run's graphs into a bundle, and prove them equal to the model.

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
    run_path = run_directory(run)
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
