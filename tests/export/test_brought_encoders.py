"""Graphs of pretrained encoders in every precision and runtime, and built by TensorRT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes.registry import installed
from hficma.export import export_model, slim_bundle
from hficma.export.tensorrt_build import build_plans
from hficma.model import ImageConfig, Model, build_model
from hficma.model.encoders.image.resolution import resolve_image_encoder
from tests.engine.test_text_bundles import text_model
from tests.model.encoders.image.folders import save_folder
from tests.model.factories import make_vectors, tiny_config
from tests.model.text_folders import text_folder

TEXT_ENCODERS = {
    "bert": ("dual", {}),
    "clip": ("dual", {"sentence": "none"}),
    "siglip": ("hf-icma", {"sentence": "none"}),
}
"""Kind and options of the model around each; the others differ from BERT in names and positions."""


@pytest.fixture(scope="module", params=TEXT_ENCODERS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    kind, options = TEXT_ENCODERS[request.param]
    # Wide enough for errors of single numbers to cancel in a score, as they do in real ones.
    options = {"global_dim": 64, **options}
    model = text_model(text_folder(folder / request.param, request.param), kind, **options)
    return export_model(model, folder / "bundle", precisions=("fp16", "int8"))


def test_every_precision_is_held_to_torch_in_every_runtime(bundle: Path) -> None:
    """A graph that one runtime reads otherwise, or a precision that was left out."""
    rows = json.loads((bundle / "parity.json").read_text())["differences"]
    ways = {(row["runtime"], row["precision"]) for row in rows if row["graph"] == "text"}
    assert ways == {(name, p) for name in installed("cpu") for p in ("fp32", "fp16", "int8")}
    assert all(row["held"] for row in rows)
    scores = [row for row in rows if row["graph"] == "scores" and row["precision"] == "int8"]
    assert scores
    assert min(row["cosine"] for row in scores) > 0.99


def test_it_is_made_slim(bundle: Path) -> None:
    """A file that a text encoder needs would be left out: its tokenizer."""
    slim = Bundle.open(slim_bundle(bundle, bundle.parent / "slim"))
    assert slim.tokenizer.text_tokenizer is not None
    assert slim.facts.graphs["text"].files == {"int8": "onnx/text.int8.onnx"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_builds_every_graph(bundle: Path, precision: str, tmp_path: Path) -> None:
    """An operator that TensorRT lacks, a type it refuses, an axis that is dynamic no longer."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    plans = build_plans(bundle, precision=precision, cache=tmp_path)
    assert [plan.graph for plan in plans] == list(Bundle.open(bundle).facts.graphs)


def image_model(folder: Path, encoder: str, kind: str) -> Model:
    """A random model over an image encoder's folder, in evaluation mode."""
    save_folder(encoder, folder)
    resolved = resolve_image_encoder(ImageConfig(encoder=str(folder)), None)
    config = tiny_config(
        kind, image=resolved.config, global_dim=64, global_text="fields", global_similarity="cosine"
    )
    return build_model(config, make_vectors(), backbone_weights=resolved.weights).eval()


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [
        ("clip", "hf-icma"),
        ("siglip", "dual"),
        ("siglip2", "dual"),
        ("dinov2_with_registers", "dual"),
        ("dinov3_vit", "dual"),
        ("swin", "dual"),
    ],
)
def test_image_encoders_are_held_to_torch_and_built(
    encoder: str, kind: str, tmp_path: Path
) -> None:
    """Positions that are stretched at every run, or a vector of the whole that is lost in fp16."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    model = image_model(tmp_path / encoder, encoder, kind)
    bundle = export_model(model, tmp_path / "bundle", precisions=("fp16", "int8"))
    rows = json.loads((bundle / "parity.json").read_text())["differences"]
    ways = {(row["runtime"], row["precision"]) for row in rows if row["graph"] == "image"}
    assert ways == {(name, p) for name in installed("cpu") for p in ("fp32", "fp16", "int8")}
    assert min(row["cosine"] for row in rows if row["graph"] == "image") > 0.99
    plans = build_plans(bundle, cache=tmp_path)
    assert [plan.graph for plan in plans] == list(Bundle.open(bundle).facts.graphs)
