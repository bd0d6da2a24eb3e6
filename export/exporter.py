"""Exports a model as a bundle: every graph in every precision, proved equal, in one directory.

    weights ─▶ graphs in float32 ─▶ ONNX ─▶ parity with torch ─▶ card, manifest
             └▶ rounded to fp16, bf16 ─▶ ONNX ─┤
                 ONNX of the encoders ─▶ int8 ─┘

Nothing is left at the bundle's place unless every graph is what the model is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hficma.artifacts.manifest import (
    MANIFEST,
    Manifest,
    new_directory,
    read_manifest,
    sha256,
    write_manifest,
)
from hficma.data.dataset import Dataset, open_dataset
from hficma.data.partitions import open_runs_dataset
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.bundle_facts import PRECISIONS, BundleFacts
from hficma.engine.bundle.sureness_file import read_sureness
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import REFERENCE, Difference, array_name
from hficma.engine.runtimes.registry import installed
from hficma.errors import InputError
from hficma.model import Model, load_model
from hficma.model.graphs import Branch, branches
from hficma.model.loading import BUNDLE_WEIGHTS
from hficma.sureness import SURENESS_FILE, SurenessFacts
from hficma.text.text_tokenizer import TEXT_TOKENIZER_FILE
from hficma.text.vocabulary import VOCABULARY_FILE

from . import half_precision as narrow
from . import parity
from .bundle_run import run_bundle
from .calibration_items import (
    CalibrationItems,
    adversarial_items,
    concatenate,
    item_arrays,
    real_items,
    smooth_items,
)
from .card import write_card
from .quantize import quantize, round_weights
from .rank_changes import RankChange, rank_change
from .stored_weights import store_narrowly
from .trace import OPSET, trace

REFERENCE_PAIRS = 4
"""Items from the dataset in the reference, beside the adversarial ones."""
CALIBRATION_PAIRS = 32
"""Training pairs that int8 is calibrated and judged on."""
CALIBRATION_TEXTS = 96
"""Of their texts, which are several a recipe."""

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def export_run(
    run: Path,
    out: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    data: str | None = None,
    runtimes: Sequence[str] | None = None,
    queries: int = parity.LEAST_QUERIES,
    weight_only: bool = False,
    local_limit: float | None = None,
) -> Path:
    """Compile the best weights of a run.

    Args:
        run: the run's directory.
        out: the bundle's directory; must not exist.
        precisions: of `fp32` (always there), `fp16`, `bf16`, `int8`.
        data: dataset for calibration and parity; None takes the run's own.
        runtimes: names of those held to the torch model; None takes those installed.
        queries: test pairs whose ranks are compared; 0 compares none.
        weight_only: int8 rounds weights alone; see `export_model`.
        local_limit: the most that S_local counts in S, which makes it another model, whose answers
            fewer candidates prove; None leaves it as it was trained.

    Returns:
        `out`.

    Raises:
        ArtifactError: no run there, or `out` exists.
        InputError: the limit is not above 0, or more than 1, or the model has no local part.
        ParityError: a graph is not what the model is; nothing is left at `out`.
    """
    model = load_model(run)
    if local_limit is not None:
        if not model.has_local:
            raise InputError(f"local limit: {model.config.kind} has no local part")
        try:
            model.config = replace(model.config, local_limit=local_limit)
        except ValueError as error:
            raise InputError(f"local limit {local_limit:g}: {error}") from error
    dataset = open_runs_dataset(run, data)
    manifest = read_manifest(run, kind="run")
    return export_model(
        model,
        out,
        precisions=precisions,
        data=dataset,
        trained_on=manifest.facts.get("dataset"),
        run=run.name,
        sureness=read_sureness(run, manifest),
        runtimes=runtimes,
        queries=queries,
        weight_only=weight_only,
    )


def export_model(
    model: Model,
    out: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    data: str | Dataset | None = None,
    trained_on: str | None = None,
    run: str | None = None,
    sureness: SurenessFacts | None = None,
    runtimes: Sequence[str] | None = None,
    queries: int = 0,
    weight_only: bool = False,
) -> Path:
    """Compile a model that is already in memory; see `export_run`.

    Args:
        model: in evaluation mode, on the CPU.
        out: the bundle's directory; must not exist.
        precisions: of `fp32` (always there), `fp16`, `bf16`, `int8`.
        data: dataset for calibration and parity; None takes random items.
        trained_on: name of the dataset that the model was trained on, where it is known: its test
            pairs are new to the model.
        run: name of the run that trained it, or None for weights that nothing trained.
        sureness: what its scores say of how sure an answer is, if it was calibrated.
        runtimes: names of those held to the torch model; None takes those installed.
        queries: test pairs whose ranks are compared; random weights need none.
        weight_only: int8 rounds weights alone and computes in float32: as small, slower, and
            nearly as exact. Otherwise encoders of photos and texts compute in integers.

    Returns:
        `out`.

    Raises:
        InputError: no such precision.
        ArtifactError: `out` exists or cannot be written.
        ParityError: a graph is not what the model is; nothing is left at `out`.
    """
    ordered = [name for name in PRECISIONS if name == "fp32" or name in precisions]
    unknown = set(precisions) - set(PRECISIONS)
    if unknown:
        raise InputError(f"precision {min(unknown)}: there is none; take {', '.join(PRECISIONS)}")
    began = time.perf_counter()
    data = open_dataset(data) if isinstance(data, str) else data
    with new_directory(out, kind="bundle", made_by="hficma export") as (building, facts):
        facts.update(_facts(model, None if data is None else data.name, run))
        facts["trained_on"] = trained_on
        _write_model(model, building)
        if sureness is not None:
            (building / SURENESS_FILE).write_text(json.dumps(sureness.to_json(), indent=1))
        # fp32 first: int8 is made from its graph.
        for precision in ordered:
            if precision == "int8":
                items = _items(model, data, ("train",), CALIBRATION_PAIRS)
                facts |= _write_int8(
                    building, facts["graphs"], items,
                    widen=data is not None, weight_only=weight_only,
                )  # fmt: skip
            else:
                image_encoder = None
                if precision == "fp16":
                    items = _items(model, data, ("train",), narrow.PHOTOS + narrow.JUDGES)
                    image_encoder = narrow.narrow_image_encoder(model, items, _DTYPES[precision])
                _write_graphs(model, building, facts["graphs"], precision, image_encoder)
        names = installed("cpu") if runtimes is None else runtimes
        differences, changes = _prove(model, building, facts, data, names, queries)
        report = json.dumps(parity.report(differences, changes), indent=1)
        (building / parity.PARITY).write_text(report)
        facts["export_seconds"] = round(time.perf_counter() - began, 1)
        write_card(building, BundleFacts.from_json(facts, out), differences, changes)
    return out


def _facts(model: Model, data: str | None, run: str | None) -> dict[str, Any]:
    """Return the facts of the manifest that are known before any graph is written."""
    config = model.config
    return {
        "model": config.to_json(),
        "model_id": model.model_id,
        "dataset": data,
        "run": run,
        "has_local": model.has_local,
        "global_dim": model.global_dim,
        "width": config.width,
        "heads": config.heads,
        "regions": model.region_count,
        "sentence_dim": model.sentence_width,
        "opset": OPSET,
        "graphs": {},
    }


def _write_model(model: Model, building: Path) -> None:
    """Write weights and vocabulary: what the runtime `torch` runs, and training starts from."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, building / BUNDLE_WEIGHTS)
    (building / BUNDLE_WEIGHTS).chmod(0o644)  # safetensors makes it private
    model.tokenizer.vocabulary.save(building / VOCABULARY_FILE)
    if model.tokenizer.text_tokenizer is not None:
        (building / TEXT_TOKENIZER_FILE).write_bytes(model.tokenizer.text_tokenizer.content)
    (building / "onnx").mkdir()


def _write_graphs(
    model: Model,
    building: Path,
    graphs: dict[str, Any],
    precision: str,
    image_encoder: torch.nn.Module | None,
) -> None:
    """Write each graph in one precision, and its file into the facts of the graphs."""
    for name, branch in branches(model, _DTYPES[precision], image_encoder=image_encoder):
        if precision == "bf16" and not name.startswith(parity.AFTER_ENCODING):
            continue  # S_global keeps its digits; encoding is not what bf16 is wanted for
        file = f"onnx/{name}.{precision}.onnx"
        trace(branch, building / file)
        record = graphs.setdefault(name, _ports(branch) | {"precisions": {}})
        record["precisions"][precision] = file


def _write_int8(
    building: Path,
    graphs: dict[str, Any],
    items: CalibrationItems,
    *,
    widen: bool,
    weight_only: bool,
) -> dict[str, Any]:
    """Write int8 graphs of all encoders; what none computes in int8 is stored narrowly.

    Args:
        building: the bundle's directory, with the float32 graphs.
        graphs: the manifest's records; get the new files.
        items: of training, to calibrate on.
        widen: leave the noisiest layers in float32.
        weight_only: leave all of them so.

    Returns:
        facts for the manifest: the layers in float32 and the noise that remains.
    """
    import onnx

    arrays = item_arrays(items)
    facts: dict[str, Any] = {"int8_kept_wide": []}
    for name, record in graphs.items():
        if name.startswith(parity.AFTER_ENCODING):
            continue
        files = record["precisions"]
        if name in ("image", "text"):
            inputs = {
                port: arrays[array_name(name, port)][:CALIBRATION_TEXTS]
                for port in record["inputs"]
            }
            content, float32_layers, noise = (
                round_weights(building / files["fp32"], inputs)
                if weight_only
                else quantize(building / files["fp32"], inputs, widen=widen)
            )
            facts["int8_kept_wide"] += float32_layers
            facts["int8_noise" if name == "image" else "int8_text_noise"] = round(noise, 4)
            graph = onnx.load_from_string(content)
        else:
            graph = onnx.load(building / files["fp32"])
            store_narrowly(graph)
        files["int8"] = f"onnx/{name}.int8.onnx"
        onnx.save(graph, building / files["int8"])
    return facts


def _ports(branch: Branch) -> dict[str, Any]:
    """Return what a graph reads and gives, as JSON values of the manifest."""
    return {
        name: {port: {"dtype": p.dtype, "shape": list(p.shape)} for port, p in ports.items()}
        for name, ports in (("inputs", branch.inputs), ("outputs", branch.outputs))
    }


def _items(
    model: Model, data: Dataset | None, partitions: Sequence[str], limit: int
) -> CalibrationItems:
    """Return up to `limit` pairs of a dataset, or random items where there is none."""
    if data is None:
        return smooth_items(model, limit)
    return real_items(data, model, partitions, limit)


def _prove(
    model: Model,
    building: Path,
    facts: dict[str, Any],
    data: Dataset | None,
    runtimes: Sequence[str],
    queries: int,
) -> tuple[list[Difference], list[RankChange]]:
    """Write the reference and hold every graph in every precision and runtime to it."""
    # Opened like any bundle, by a manifest for the time being; the one that stays is written when
    # all files are there.
    files = {
        file.relative_to(building).as_posix(): sha256(file)
        for file in building.rglob("*")
        if file.is_file()
    }
    write_manifest(
        building, Manifest(kind="bundle", made_by="hficma export", files=files, facts=facts)
    )
    try:
        torch_bundle = Bundle.open(building, ExecutionOptions(runtime="torch"))
        pairs = _items(model, data, ("test", "val"), REFERENCE_PAIRS)
        items = item_arrays(concatenate(adversarial_items(model), pairs))
        reference = run_bundle(torch_bundle, items)
        with (building / REFERENCE).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **reference)
        differences = parity.all_differences(building, reference, runtimes=runtimes)
        parity.require(differences, ())
        changes = []
        if queries and data is not None:
            pairs = _items(model, data, ("test", "val"), queries)
            for name in runtimes:
                for precision in parity.bundle_precisions(building, name):
                    execution = ExecutionOptions(runtime=name, precision=precision)
                    bundle = Bundle.open(building, execution)
                    changes.append(rank_change(bundle, torch_bundle, pairs))
        parity.require(differences, changes)
        return differences, changes
    finally:
        (building / MANIFEST).unlink()
