"""TensorRT takes every graph, and a plan is rebuilt exactly when what it depends on changed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from torch import nn

from hficma.cli import main
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.bundle_facts import longest_sizes
from hficma.engine.runtimes.base import Graph
from hficma.engine.runtimes.tensorrt_plans import PlanKey, why_stale, write_plan
from hficma.engine.runtimes.tensorrt_profiles import profiles_of, run_in_profiles
from hficma.errors import InputError
from hficma.export import check_tensorrt
from hficma.model import ModelConfig, build_model
from hficma.model.graphs import branches
from hficma.training import load_options, presets
from hficma.types import ArraySpec
from tests.model.factories import make_vectors

KEY = PlanKey(
    onnx="a",
    library="tensorrt",
    version="10",
    gpu="one",
    compute_capability="9.0",
    precision="fp16",
    profiles=[{"B": (1, 2, 4)}],
)


@pytest.mark.parametrize("kind", ["hf_icma", "adamine"])
def test_every_graph_builds(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """An operator that TensorRT lacks, or a type it refuses."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from hficma.export.tensorrt_build import build_plans

    bundle = request.getfixturevalue(f"{kind}_bundle")
    reasons: list[str] = []
    plans = build_plans(bundle, cache=tmp_path, on_build=reasons.append)
    assert [plan.graph for plan in plans] == list(Bundle.open(bundle).facts.graphs)
    assert all(plan.file.stat().st_size > 1000 for plan in plans)
    assert len(reasons) == len(plans)
    assert all(plan.built is None for plan in build_plans(bundle, cache=tmp_path))


def test_a_plan_is_stale_when_anything_it_depends_on_changed(tmp_path: Path) -> None:
    file = tmp_path / "image.fp16.plan"
    assert why_stale(file, KEY) == "there is none yet"
    write_plan(file, b"plan", KEY)
    assert why_stale(file, KEY) is None
    other: dict[str, object] = {"profiles": [{"B": (1, 2, 8)}]}
    other |= {field.name: "other" for field in dataclasses.fields(KEY) if field.type == "str"}
    assert set(other) == {field.name for field in dataclasses.fields(KEY)}
    for name, value in other.items():
        assert name in str(why_stale(file, dataclasses.replace(KEY, **{name: value})))
    file.write_bytes(b"Plan")
    assert why_stale(file, KEY) == "its file was changed"


def test_inputs_beyond_a_profile_are_split_and_joined() -> None:
    """A query with more candidates than a plan takes would fail, or lose some."""
    ports = {
        "left": ArraySpec("float32", ("G", "B", 3)),
        "right": ArraySpec("float32", ("G", "M", 3)),
    }
    outputs = {"score": ArraySpec("float32", ("G", "B", "M"))}
    profiles = [
        {"G": (1, 1, 2), "B": (1, 1, 1), "M": (1, 2, 4)},
        {"G": (1, 1, 1), "B": (1, 2, 3), "M": (1, 2, 3)},
    ]
    seen = []

    def execute(number: int, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        (groups, photos, _), recipes = inputs["left"].shape, inputs["right"].shape[1]
        for letter, size in (("G", groups), ("B", photos), ("M", recipes)):
            assert size <= profiles[number][letter][2]
        seen.append(number)
        return {"score": inputs["left"] @ inputs["right"].swapaxes(1, 2)}

    rng = np.random.default_rng(0)
    for groups, photos, recipes in ((1, 1, 1), (5, 1, 9), (1, 7, 10), (3, 4, 5)):
        arrays = {
            "left": rng.normal(size=(groups, photos, 3)).astype(np.float32),
            "right": rng.normal(size=(groups, recipes, 3)).astype(np.float32),
        }
        outputs_joined = run_in_profiles(execute, arrays, ports, outputs, profiles)["score"]
        expected = arrays["left"] @ arrays["right"].swapaxes(1, 2)
        np.testing.assert_allclose(outputs_joined, expected, atol=1e-5)
    assert set(seen) == {0, 1}


def preset_models() -> dict[str, ModelConfig]:
    """Each model that a preset trains, by the first preset that does."""
    models: dict[str, ModelConfig] = {}
    for name in presets():
        config = load_options(name).model
        if config not in models.values():
            models[name] = config
    return models


@pytest.mark.parametrize("preset", preset_models())
def test_every_preset_builds(preset: str, tmp_path: Path) -> None:
    """A size at which a graph no longer builds; the published one is eight times the tests'."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from hficma.export.tensorrt_build import build_plan
    from hficma.export.trace import trace

    config = preset_models()[preset]
    model = build_model(config, make_vectors(config.word_dim)).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):  # new ones are 0, which TensorRT drops
            nn.init.normal_(parameter, std=0.1)
    longest = longest_sizes(config.text)
    for name, branch in branches(model):
        file = tmp_path / f"{name}.onnx"
        trace(branch, file)
        graph = Graph(
            name=name,
            precision="fp32",
            file=file,
            sha256="",
            bundle=tmp_path,
            model_id=model.model_id,
            inputs=branch.inputs,
            outputs=branch.outputs,
            longest=longest,
        )
        assert len(build_plan(graph, profiles_of(name, longest))) > 1000


def test_what_building_plans_needs_is_checked_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export of minutes ended in an error that was certain before it began."""
    # A module that is None cannot be imported, as one that is not installed.
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    # The run is read only after the check, so it need not be there.
    monkeypatch.setattr(sys, "argv", ["hficma", "export", "--run", "no-such-run", "--trt"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "needs tensorrt, which is not installed: pip install 'hficma[trt]'" in said.err
    assert len(said.err.splitlines()) == 1
    assert not said.out

    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(InputError, match="does not read these graphs"):
        check_tensorrt(("fp32", "int8"))
    monkeypatch.setenv("PATH", "")  # without the driver's tool no GPU is found
    with pytest.raises(InputError, match="there is none here"):
        check_tensorrt(("fp32",))
