"""A bundle's ONNX graph is bounded before a runtime sees it: nothing in it burns, reads or runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hficma.artifacts.manifest import sha256
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import Graph
from hficma.engine.runtimes.onnx_check.graph_costs import RULES, check_graph
from hficma.engine.runtimes.onnx_check.onnx_file import read_onnx
from hficma.engine.runtimes.onnx_check.onnx_model import OPERATORS
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import ArtifactError, HficmaError
from hficma.types import ArraySpec

FLOATS = ArraySpec("float32", ("B", 4))


def ints(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def make_graph(
    folder: Path, nodes: list[onnx.NodeProto], constants: list[TensorProto] = (), **options: object
) -> Graph:
    """A graph from `x` (B, 4) to `y` (B, 4) as a file of a bundle; `options` are of the model."""
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [port("x", TensorProto.FLOAT, ["B", 4])],
        [port("y", TensorProto.FLOAT, ["B", 4])],
        initializer=list(constants),
    )
    opsets = [helper.make_opsetid("", 20), *options.pop("opsets", [])]  # type: ignore[misc]
    model = helper.make_model(graph, opset_imports=opsets, **options)
    folder.mkdir(exist_ok=True)
    (folder / "x.onnx").write_bytes(model.SerializeToString())
    return as_graph(folder / "x.onnx")


def as_graph(file: Path) -> Graph:
    return Graph(
        name="g", precision="fp32", file=file, sha256="", bundle=file.parent, model_id="",
        inputs={"x": FLOATS}, outputs={"y": FLOATS}, longest={},
    )  # fmt: skip


def node(operator: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def refused(graph: Graph, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        check_graph(graph)
    assert len(str(caught.value).splitlines()) == 1


def test_each_operator_is_followed() -> None:
    """An operator that passes by name but that nothing bounds."""
    assert OPERATORS.keys() == RULES.keys()


def test_a_plain_graph_passes(tmp_path: Path) -> None:
    check_graph(make_graph(tmp_path, [node("Relu", "x", "y")]))


def body() -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [node("Identity", "c", "d"), node("Identity", "a", "b")],
        "body",
        [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []),
         value("a", TensorProto.FLOAT, ["B", 4])],
        [value("d", TensorProto.BOOL, []), value("b", TensorProto.FLOAT, ["B", 4])],
    )  # fmt: skip


CONTROL = {
    "Loop": ([node("Loop", "n t x", "y", body=body())], [ints("n", 10**12)]),
    "If": ([node("If", "t", "y", then_branch=body(), else_branch=body())], []),
    "Scan": ([node("Scan", "x x", "y z", body=body(), num_scan_inputs=1)], []),
}


@pytest.mark.parametrize("kind", CONTROL)
def test_control_flow_is_refused(kind: str, tmp_path: Path) -> None:
    """A loop of 10¹² turns is a few bytes long."""
    nodes, constants = CONTROL[kind]
    yes = numpy_helper.from_array(np.array(True), "t")
    refused(make_graph(tmp_path, nodes, [*constants, yes]), f"{kind}|a graph inside a node")


HUGE = ints("n", 10**12)
BIG = ints("n", 10**6)
BOMBS: dict[str, tuple[list[onnx.NodeProto], list[TensorProto]]] = {
    "ConstantOfShape": ([node("ConstantOfShape", "n", "z")], [HUGE]),
    "Expand": ([node("Expand", "x s", "z")], [ints("s", 10**12, 1, 1)]),
    "Tile": ([node("Tile", "x s", "z")], [ints("s", 10**12, 1)]),
    "Pad": ([node("Pad", "x s", "z")], [ints("s", 0, 0, 10**12, 0)]),
    "Range": (
        [node("Range", "a n b", "z")],
        [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in
         (("a", 0), ("n", 10**12), ("b", 1))],
    ),
    "factors of a shape": (
        [node("Mul", "n n", "m"), node("ConstantOfShape", "m", "z")], [BIG],
    ),
    "a shape joined of parts": (
        [node("Concat", "n n", "m", axis=0), node("ConstantOfShape", "m", "z")], [BIG],
    ),
    "a product of two vectors": (
        [node("ConstantOfShape", "s", "a"), node("ConstantOfShape", "t", "b"),
         node("MatMul", "a b", "z")],
        [ints("s", 10**6, 1), ints("t", 1, 10**6)],
    ),
    "broadcast": (
        [node("ConstantOfShape", "s", "a"), node("ConstantOfShape", "t", "b"),
         node("Add", "a b", "z")],
        [ints("s", 10**6, 1), ints("t", 1, 10**6)],
    ),
    "work": (
        [node("ConstantOfShape", "s", "m0"),
         *(node("MatMul", f"m{i} m{i}", f"m{i + 1}") for i in range(9))],
        [ints("s", 8000, 8000)],
    ),
    "padding of a window": (
        [node("Unsqueeze", "x o", "u"), node("Unsqueeze", "u o", "v"),
         node("MaxPool", "v", "z", kernel_shape=[1, 1], pads=[10**6, 10**6, 10**6, 10**6])],
        [ints("o", 0)],
    ),
    "a shape by content": (
        [node("Cast", "x", "i", to=TensorProto.INT64), node("Slice", "i o p q", "j"),
         node("Squeeze", "j q", "k"), node("ConstantOfShape", "k", "z")],
        [ints("o", 0), ints("p", 1), ints("q", 0)],
    ),
    "doubling forty times": (
        [node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(40)], [ints("c0", 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_is_loaded(kind: str, tmp_path: Path) -> None:
    """Runtimes compute constants while they load: a small file took all memory."""
    nodes, constants = BOMBS[kind]
    graph = make_graph(tmp_path, [*nodes, node("Relu", "x", "y")], constants)
    refused(graph, "makes an array|multiply-adds|absurd size|depends on what it reads")


OUTSIDE = [
    "Resize", "Upsample", "NonZero", "StringNormalizer", "RandomNormal", "Loop",
    "SequenceConstruct", "Einsum", "TfIdfVectorizer", "Unique", "Compress",
]  # fmt: skip


@pytest.mark.parametrize("operator", OUTSIDE)
def test_operators_that_no_export_uses_are_refused(operator: str, tmp_path: Path) -> None:
    refused(make_graph(tmp_path, [node(operator, "x", "y")]), f"{operator}'.* no export uses")


def test_other_domains_are_refused(tmp_path: Path) -> None:
    """A runtime may have operators that read files or run Python."""
    custom = node("Relu", "x", "y", domain="com.example")
    refused(make_graph(tmp_path / "a", [custom]), "com.example.Relu")
    opsets = [helper.make_opsetid("com.example", 1)]
    graph = make_graph(tmp_path / "b", [node("Relu", "x", "y")], opsets=opsets)
    refused(graph, "operators of com.example")


def test_functions_are_refused(tmp_path: Path) -> None:
    """A function's nodes are nodes too, and may call each other without end."""
    function = helper.make_function(
        "", "Relu", ["a"], ["b"], [node("Identity", "a", "b")], [helper.make_opsetid("", 20)]
    )
    refused(make_graph(tmp_path, [node("Relu", "x", "y")], functions=[function]), "functions")


def change_tensor(tensor: TensorProto, kind: str) -> None:
    if kind == "dims":
        tensor.dims[:] = [10**6, 10**6]
    elif kind == "negative":
        tensor.dims[:] = [-1, -4]
    elif kind == "external":
        tensor.data_location = TensorProto.EXTERNAL
    elif kind == "location":
        tensor.external_data.add(key="location", value="/etc/passwd")
    elif kind == "text":
        tensor.data_type = TensorProto.STRING
    elif kind == "short":
        tensor.raw_data = tensor.raw_data[:-4]
    else:
        tensor.int64_data.append(1)


@pytest.mark.parametrize(
    "kind", ["dims", "negative", "external", "location", "text", "short", "twice"]
)
def test_a_tensor_is_what_its_bytes_are(kind: str, tmp_path: Path) -> None:
    """A constant of 10¹² elements without data, or with data of another file."""
    weights = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    graph = make_graph(tmp_path, [node("Add", "x w", "y")], [weights])
    check_graph(graph)
    model = onnx.load(graph.file, load_external_data=False)
    change_tensor(model.graph.initializer[0], kind)
    graph.file.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError):
        check_graph(graph)


def test_nodes_that_read_each_other_are_refused(tmp_path: Path) -> None:
    """A circle, in which nothing has a shape."""
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "x", "y")]
    refused(make_graph(tmp_path, nodes), "read each other")
    backwards = [node("Relu", "a", "y"), node("Relu", "x", "a")]
    check_graph(make_graph(tmp_path, backwards))  # as a quantiser writes them


def test_ports_are_those_of_the_manifest(tmp_path: Path) -> None:
    """Another type or shape would fail deep inside a runtime, or be read as what it is not."""
    graph = make_graph(tmp_path, [node("Relu", "x", "y")])
    for port in (
        ArraySpec("int64", ("B", 4)),
        ArraySpec("float32", ("B", 5)),
        ArraySpec("float32", ("B",)),
    ):
        refused(dataclasses.replace(graph, inputs={"x": port}), "input")
    refused(dataclasses.replace(graph, outputs={"z": FLOATS}), "other outputs")
    graph = make_graph(tmp_path, [node("Transpose", "x", "y", perm=[1, 0])])
    refused(graph, "gives y in another shape")


@pytest.mark.parametrize("content", [b"", b"\x3a\xff\x01", b"no protobuf at all", b"\xff" * 20])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    refused(as_graph(tmp_path / "x.onnx"), "is no ONNX file")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    return make_graph(tmp_path_factory.mktemp("p"), [node("MatMul", "x w", "y")], [weights]).file


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_is_one_line_or_nothing(plain: Path, data: st.DataObject) -> None:
    """A reader of damaged bytes that raises anything but one line, or never ends."""
    content = bytearray(plain.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = plain.with_name("damaged.onnx")
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        check_graph(as_graph(file))
    except ArtifactError as error:
        message = str(error)
    else:
        message = "one line"
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("kind", ["hf_icma", "adamine"])
def test_exports_pass(kind: str, request: pytest.FixtureRequest) -> None:
    """A bundle of our own that is refused."""
    bundle = Bundle.open(request.getfixturevalue(f"{kind}_bundle"))
    for name in bundle.facts.graphs:
        assert read_onnx(bundle.graph(name).file).nodes


Change = Callable[[dict], object]
GRAPHS = "graphs"
FACTS: dict[str, Change] = {
    "no graphs": lambda f: f.pop(GRAPHS),
    "a graph is a list": lambda f: f[GRAPHS].update(image=[]),
    "a graph is missing": lambda f: f[GRAPHS].pop("cross_tables"),
    "a graph more": lambda f: f[GRAPHS].update(other=f[GRAPHS]["image"]),
    "a port is missing": lambda f: f[GRAPHS]["image"]["inputs"].pop("photos"),
    "a port of another type": lambda f: f[GRAPHS]["image"]["inputs"]["photos"].update(dtype="|O"),
    "a port of another shape": lambda f: f[GRAPHS]["recipe"]["outputs"]["global"].update(
        shape=["M", 10**12]
    ),
    "a file elsewhere": lambda f: f[GRAPHS]["image"]["precisions"].update(fp32="/etc/passwd"),
    "a file above": lambda f: f[GRAPHS]["image"]["precisions"].update(fp32="../x.onnx"),
    "a precision that is none": lambda f: f[GRAPHS]["image"]["precisions"].update(fp8="x"),
    "precisions are null": lambda f: f[GRAPHS]["image"].update(precisions=None),
    "NaN weight": lambda f: f["model"].update(global_weight=float("nan")),
    "negative weight": lambda f: f["model"].update(local_weight=-0.8),
    "infinite weight": lambda f: f["model"].update(local_weight=float("inf")),
    "a weight in words": lambda f: f["model"].update(global_weight="0.2"),
    "no model": lambda f: f.pop("model"),
    "another kind": lambda f: f["model"].update(kind="clip"),
    "a model without its local part": lambda f: f.update(has_local=False),
    "heads that do not divide": lambda f: f.update(heads=3),
    "a width of 10¹²": lambda f: f.update(width=10**12),
    "a width that is a flag": lambda f: f.update(width=True),
    "a model_id that is a path": lambda f: f.update(model_id="../../etc"),
    "no limit of words": lambda f: f["model"]["text"].update(max_words=0),
    "text options are a list": lambda f: f["model"].update(text=[1]),
}


@pytest.mark.parametrize("kind", FACTS)
def test_facts_that_are_no_bundles_are_one_line(
    kind: str, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """KeyError, a wrong answer, or a file of the machine read because a manifest names it."""
    copied = Path(shutil.copytree(hf_icma_bundle, tmp_path / "bundle"))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest.pop("sha256", None)  # as whoever edits it would
    FACTS[kind](manifest["facts"])
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged") as caught:
        Bundle.open(copied)
    assert len(str(caught.value).splitlines()) == 1


def rewritten(bundle: Path, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a bundle with another file in it, and its hash in the manifest."""
    copied = Path(shutil.copytree(bundle, folder / "bundle"))
    (copied / name).write_bytes(content)
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest.pop("sha256", None)
    manifest["files"][name] = sha256(copied / name)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    return copied


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"words": [1], "counts": [1]}', b'{"words": ["a"], "counts": ["many"]}',
     b'{"words": ["a", "a"], "counts": [1, 1]}', b'{"words": "ab", "counts": [1, 1]}',
     b'{"words": ["a"], "counts": [-1]}', b"[" * 100_000, b"\xff\xfe"],
)  # fmt: skip
def test_a_vocabulary_is_words_and_counts(
    content: bytes, adamine_bundle: Path, tmp_path: Path
) -> None:
    copied = rewritten(adamine_bundle, tmp_path, "vocabulary.json", content)
    with pytest.raises(ArtifactError, match=r"vocabulary\.json: is no vocabulary") as caught:
        _ = Bundle.open(copied).tokenizer
    assert len(str(caught.value).splitlines()) == 1


def npz(folder: Path, **arrays: np.ndarray) -> bytes:
    np.savez_compressed(folder / "r.npz", **arrays)  # type: ignore[arg-type]
    return (folder / "r.npz").read_bytes()


def claiming(folder: Path, shape: bytes) -> bytes:
    """An archive with one array whose header claims another shape than it has bytes for."""
    import io
    import zipfile

    plain = io.BytesIO()
    np.lib.format.write_array(plain, np.zeros((1000,), np.float32))
    content = plain.getvalue().replace(b"(1000,)", shape)
    with zipfile.ZipFile(folder / "c.npz", "w") as archive:
        archive.writestr("photos.npy", content)
    return (folder / "c.npz").read_bytes()


@pytest.mark.parametrize("kind", ["empty", "text", "objects", "claims", "lacks", "nan"])
def test_reference_data_is_checked(
    kind: str, adamine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects would be unpickled, a claimed shape allocated, a missing array a KeyError."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path / "home"))  # no measurement is kept there
    content = {
        "empty": lambda: b"",
        "text": lambda: b"no archive",
        "objects": lambda: npz(tmp_path, photos=np.array([{}], dtype=object)),
        "claims": lambda: claiming(tmp_path, b"(9**9,)"),
        "lacks": lambda: npz(tmp_path, photos=np.zeros((1, 224, 224, 3), np.uint8)),
        "nan": lambda: npz(tmp_path, image_global=np.array([np.nan], np.float32)),
    }[kind]()
    copied = rewritten(adamine_bundle, tmp_path, "reference.npz", content)
    with pytest.raises(HficmaError, match=r"reference\.npz") as caught:
        Bundle.open(copied, ExecutionOptions(threads=1)).runtime("image")
    assert len(str(caught.value).splitlines()) == 1
