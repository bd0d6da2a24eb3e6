"""Makes a bundle: every graph in every precision, proved equal, in one directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hficma.artifact import new_directory, read_manifest
from hficma.model import Model, load_model
from hficma.model.branches import REGIONS, Branch, branches, global_width

from .trace import OPSET, trace

VOCABULARY = "vocabulary.json"
WEIGHTS = "model.safetensors"


def export_run(run: Path, out: Path, *, precisions: Sequence[str] = ("fp32",)) -> Path:
    """Compile the best weights of a run.

    Args:
        run: the run's directory.
        out: the bundle's directory; must not exist.
        precisions: of `fp32` (always made), `fp16`, `bf16`, `int8`.

    Returns:
        `out`.

    Raises:
        ArtifactError: no run there, or `out` exists.
    """
    model = load_model(run)
    facts = read_manifest(run, kind="run").facts
    return export_model(
        model, out, precisions=precisions, dataset=facts.get("dataset"), run=run.name
    )


def export_model(
    model: Model,
    out: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    dataset: str | None = None,
    run: str | None = None,
) -> Path:
    """Compile a model that is already in memory; see `export_run`.

    Args:
        model: in evaluation mode, on the CPU.
        out: the bundle's directory; must not exist.
        precisions: of `fp32` (always made), `fp16`, `bf16`, `int8`.
        dataset: what `--data` named in training: real items for calibration and parity.
        run: the run's name.
    """
    from safetensors.torch import save_file

    with new_directory(out, kind="bundle", made_by="hficma export") as (building, facts):
        config = model.config
        facts.update(
            model=config.to_json(),
            model_id=model.model_id,
            dataset=dataset,
            run=run,
            has_local=model.has_local,
            global_dim=global_width(model),
            width=config.width,
            heads=config.heads,
            regions=REGIONS,
            sentence_dim=model.sentence_encoder.width,
            opset=OPSET,
            graphs={},
        )
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
            building / WEIGHTS,
        )
        model.tokenizer.vocabulary.save(building / VOCABULARY)
        (building / "onnx").mkdir()
        for name, branch in branches(model):
            file = f"onnx/{name}.fp32.onnx"
            trace(branch, building / file)
            facts["graphs"][name] = _graph_facts(branch) | {"precisions": {"fp32": file}}
    return out


def _graph_facts(branch: Branch) -> dict[str, Any]:
    return {
        "inputs": {name: dataclasses.asdict(port) for name, port in branch.inputs.items()},
        "outputs": {name: dataclasses.asdict(port) for name, port in branch.outputs.items()},
    }
