"""Export proves what it ships, and fails where a graph is not the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hficma.artifacts.manifest import read_manifest
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import encode_recipes
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import TOLERANCES, Difference
from hficma.errors import ArtifactError, InputError
from hficma.export import ParityError, check_bundle, export_model, exporter
from hficma.export.calibration_items import smooth_items
from hficma.export.parity import require
from hficma.export.rank_changes import RankChange, rank_change
from hficma.model import HeadConfig, load_model
from hficma.text.vocabulary import RecipeIds, TextConfig
from tests.model.factories import make_model

NARROW = ("fp16", "bf16", "int8")
CLOSE = Difference(
    graph="scores", output="local", precision="fp32", runtime="onnxruntime",
    max=5e-5, mean=1e-5, cosine=1.0, spread=0.01,
)  # fmt: skip
UNCHANGED = RankChange(
    precision="fp32", runtime="onnxruntime", queries=500, overlap=1.0,
    recall={1: 20.0, 10: 50.0}, reference_recall={1: 20.0, 10: 50.0},
)  # fmt: skip


@pytest.fixture(scope="module")
def narrow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("narrow") / "bundle"
    return export_model(make_model(sentence="gru", sentence_dim=7), out, precisions=NARROW)


def test_a_bundle_holds_what_inference_needs(narrow_bundle: Path) -> None:
    """A file that is missing here is missing where the bundle is sent."""
    manifest = read_manifest(narrow_bundle, kind="bundle")
    graphs = manifest.facts["graphs"]
    files = {file for graph in graphs.values() for file in graph["precisions"].values()}
    files |= {"model.safetensors", "vocabulary.json", "parity.json", "reference.npz", "README.md"}
    assert set(manifest.files) == files
    assert set(graphs["image"]["precisions"]) == {"fp32", "fp16", "int8"}
    assert set(graphs["cross_tables"]["precisions"]) == {"fp32", "fp16", "bf16"}
    card = (narrow_bundle / "README.md").read_text()
    assert all(f"`{name}`" in card for name in graphs)
    assert manifest.facts["model_id"] == load_model(narrow_bundle).model_id


@pytest.mark.parametrize(
    ("kind", "precisions", "options"),
    [
        ("dual", NARROW, {}),
        ("hf-icma", (), {}),
        ("dual", ("int8",), {"members": 2, "text": TextConfig(unit="field")}),
    ],
    ids=["dual", "hf-icma", "ensemble of whole fields"],
)
def test_heads_over_fields_are_exported(
    kind: str, precisions: tuple[str, ...], options: dict[str, object], tmp_path: Path
) -> None:
    """The recipe graph reads how many sentences are titles: left out, titles were instructions."""
    head = HeadConfig(layers="mlp", hidden=7)
    fields = {"global_text": "fields", "global_similarity": "cosine", "recipe_head": head}
    model = make_model(kind, **fields, **options)
    out = export_model(model, tmp_path / "bundle", precisions=precisions, runtimes=["onnxruntime"])
    recipe = read_manifest(out, kind="bundle").facts["graphs"]["recipe"]
    assert list(recipe["inputs"])[-1] == "title_counts"
    check_bundle(out, runtimes=["onnxruntime"])
    recipes = [
        RecipeIds(np.array([3, 4]), (np.array([5, 6]), np.array([7])), titles=titles)
        for titles in (0, 1, 2)
    ]
    vectors = encode_recipes(Bundle.open(out, ExecutionOptions(threads=1)), recipes).vectors
    expected = model.recipe_tokens(model.recipe_batch(recipes)).global_.detach().numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert len(np.unique(vectors.round(4), axis=0)) == 3


def test_every_graph_and_precision_is_in_the_report(narrow_bundle: Path) -> None:
    rows = json.loads((narrow_bundle / "parity.json").read_text())["differences"]
    graphs = read_manifest(narrow_bundle, kind="bundle").facts["graphs"]
    for name, record in graphs.items():
        for precision in set(record["precisions"]) & {"fp32", "fp16", "int8"}:
            assert any(row["graph"] == name and row["precision"] == precision for row in rows)
    assert all(row["held"] for row in rows)


def test_global_scores_are_float32_in_every_precision(narrow_bundle: Path) -> None:
    """Sums of hundreds would lose S_local's digits in fp16."""
    bundle = Bundle.open(
        narrow_bundle, ExecutionOptions(runtime="onnxruntime", precision="fp16", threads=1)
    )
    graph = bundle.graph("cross_tables")
    assert graph.precision == "fp16"
    inputs = {
        name: np.ones([size if isinstance(size, int) else 1 for size in port.shape], port.dtype)
        for name, port in graph.inputs.items()
    }
    inputs["image_global"][...] = 1.0001
    assert bundle.run("cross_tables", inputs)["global"][0, 0, 0] == np.float32(6 * 1.0001)


def test_check_holds_a_bundle_elsewhere(narrow_bundle: Path) -> None:
    differences = check_bundle(narrow_bundle)
    assert {one.precision for one in differences} == {"fp32", "fp16", "int8"}


def test_check_reads_every_file(adamine_bundle: Path, tmp_path: Path) -> None:
    """A damaged file that no graph reads would be found only when it is needed."""
    import shutil

    copied = Path(shutil.copytree(adamine_bundle, tmp_path / "bundle"))
    (copied / "README.md").write_text("other")
    with pytest.raises(ArtifactError, match=r"README\.md"):
        check_bundle(copied)


def test_a_wrong_graph_fails_the_export_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter's mistake would ship."""
    right = exporter.trace

    def wrong(branch: torch.nn.Module, path: Path) -> None:
        for parameter in branch.parameters():
            parameter.data *= 1.01
        right(branch, path)  # type: ignore[arg-type]

    monkeypatch.setattr(exporter, "trace", wrong)
    model = make_model("adamine")
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write = exporter._write_graphs

    def write_and_restore(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        model.load_state_dict(weights)

    monkeypatch.setattr(exporter, "_write_graphs", write_and_restore)
    with pytest.raises(ParityError, match="in fp32 on onnxruntime differs by") as raised:
        export_model(model, tmp_path / "bundle")
    assert raised.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", TOLERANCES)
def test_tolerances(precision: str) -> None:
    limit = TOLERANCES[precision]
    require([replace(CLOSE, precision=precision, max=0.9 * limit)], ())
    with pytest.raises(ParityError, match=f"scores.local in {precision}"):
        require([replace(CLOSE, precision=precision, max=1.1 * limit)], ())
    # S_global is relative to its spread: the same difference is far too much here.
    with pytest.raises(ParityError, match=r"scores\.global"):
        require([replace(CLOSE, precision=precision, output="global", max=0.9 * limit)], ())


def test_a_branch_is_held_in_fp32_too() -> None:
    """A deep trunk's rounding passes, a graph that computes something else does not."""
    branch = replace(CLOSE, precision="fp32", graph="image", output="tokens", spread=1.0)
    require([replace(branch, max=5e-4)], ())
    with pytest.raises(ParityError, match=r"image\.tokens in fp32"):
        require([replace(branch, max=2e-3)], ())


def test_numbers_that_are_none_never_pass() -> None:
    with pytest.raises(ParityError):
        require([replace(CLOSE, precision="int8", max=float("nan"))], ())


def test_ranks_fail_an_export_only_with_enough_queries() -> None:
    require((), [UNCHANGED])
    for changed in (
        replace(UNCHANGED, overlap=0.999),
        replace(UNCHANGED, precision="fp16", overlap=0.985),
        replace(UNCHANGED, precision="int8", overlap=0.8, recall={1: 20.0, 10: 48.9}),
    ):
        with pytest.raises(ParityError, match="changes answers"):
            require((), [changed])
        require((), [replace(changed, queries=499)])
    require((), [replace(UNCHANGED, precision="int8", overlap=0.8, recall={1: 20.0, 10: 49.1})])


@pytest.mark.parametrize("kind", ["hf_icma", "adamine"])
def test_equal_graphs_change_no_answer(kind: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(f"{kind}_bundle")
    bundle = Bundle.open(path, ExecutionOptions(runtime="onnxruntime", threads=1))
    items = smooth_items(bundle, 12)
    change = rank_change(bundle, Bundle.open(path, ExecutionOptions(runtime="torch")), items)
    assert (change.queries, change.overlap) == (12, 1.0)
    assert change.within_tolerance
    assert change.recall[10] >= change.recall[1] >= 0


def test_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision fp8"):
        export_model(make_model("adamine"), tmp_path / "bundle", precisions=("fp8",))
