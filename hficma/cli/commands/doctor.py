"""`hficma doctor`: shows what is installed, what works, and what each step still lacks."""

from __future__ import annotations

import importlib
import platform
from importlib import metadata
from typing import Annotated

import typer

from ...artifacts.workspace import Workspace
from ...errors import ArtifactError
from ...pretrained import has_pretrained, pretrained_path
from ..console import print_json, stdout, table

# What a user may do: the extras of `pip install hficma[EXTRA]` that it needs, and their packages.
STEPS: dict[str, dict[str, tuple[str, ...]]] = {
    "search, index": {"cpu": ("onnxruntime", "faiss")},
    "train, eval, export": {
        "train": ("torch", "torchvision", "onnx", "onnxscript", "gensim", "safetensors"),
        "cpu": ("onnxruntime",),
    },
    "data import": {
        "data": ("pyarrow", "lmdb", "recipe-scrapers", "extruct", "lxml", "w3lib"),
    },
    "serve": {
        "serve": ("fastapi", "uvicorn", "prometheus-client", "python-multipart"),
        "cpu": ("onnxruntime", "faiss"),
    },
    "bench reports": {"report": ("matplotlib",)},
    "index, search --ray": {"cluster": ("ray", "fsspec"), "cpu": ("onnxruntime", "faiss")},
    "export --trt": {"trt-rtx": ("tensorrt_rtx",)},
    "runtime openvino": {"openvino": ("openvino",)},
}
COOKBOOK_STEP = "search the cookbook"
"""A search with nothing of one's own, which needs what any search does and the package's model."""
# Packages that are installed under other names, or under one of several.
_DISTRIBUTIONS = {
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt_rtx": ("tensorrt-rtx",),
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """What is installed, which runtimes and devices work, and what each step lacks.

    Example: hficma doctor
    """
    steps = {}
    for step, extras in STEPS.items():
        missing = {
            extra: [package for package in packages if _version(package) is None]
            for extra, packages in extras.items()
        }
        lacking = [extra for extra, packages in missing.items() if packages]
        steps[step] = f"needs pip install 'hficma[{','.join(lacking)}]'" if lacking else "ready"
    if steps["search, index"] == "ready":
        steps[COOKBOOK_STEP] = "ready" if has_pretrained() else "not in this installation"
    else:
        steps[COOKBOOK_STEP] = steps["search, index"]
    packages = sorted({p for extras in STEPS.values() for group in extras.values() for p in group})
    versions = {package: _version(package) or "not installed" for package in packages}
    runtimes = _runtimes()
    bundles = _bundles()
    if as_json:
        print_json({"steps": steps, "packages": versions, "runtimes": runtimes, "bundles": bundles})
        return
    for title, columns, findings in (
        ("steps", ("step", "state"), steps),
        ("packages", ("package", "version"), versions),
        ("runtimes", ("runtime", "state"), runtimes),
        ("bundles here", ("bundle", "graphs"), bundles),
    ):
        if findings:
            rows = [[name, state] for name, state in findings.items()]
            stdout.print(table(title, columns, rows, justify="left"), "")
    both = [names for names in _DISTRIBUTIONS.values() if len(names) > 1 and _all_installed(names)]
    for names in both:
        stdout.print_line(
            f"{' and '.join(names)} are both installed and own the same files: remove one"
        )


def _runtimes() -> dict[str, str]:
    """Return what the installed runtimes say of their devices."""
    states = {"python": f"{platform.python_version()} on {platform.system()}"}
    if _version("onnxruntime"):
        ort = importlib.import_module("onnxruntime")
        states["onnxruntime"] = (
            f"CPU; {'GPU build' if 'gpu' in ort.get_device().lower() else 'CPU build'}"
        )
    native = importlib.import_module("hficma.engine.native.library")
    states["native"] = native.describe()
    if _version("torch"):
        torch = importlib.import_module("torch")
        cuda = torch.cuda.is_available()
        states["torch"] = f"{torch.cuda.get_device_name()}" if cuda else "CPU; no CUDA device"
    if _version("faiss"):
        faiss = importlib.import_module("faiss")
        count = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
        states["faiss"] = f"{count} GPUs" if count else "CPU"
    return states


def _bundles() -> dict[str, str]:
    """Return what graphs each bundle has, or why it does not open: the workspace's, newest first,
    and the package's.
    """
    from hficma.engine.bundle.bundle_facts import BundleFacts

    bundles = {path.name: path for path in Workspace.default().all("bundle")}
    if has_pretrained():
        bundles["hficma's pretrained"] = pretrained_path("bundle")
    states = {}
    for name, path in bundles.items():
        try:
            states[name] = BundleFacts.read(path).contents
        except ArtifactError as error:
            states[name] = str(error)
    return states


def _all_installed(names: tuple[str, ...]) -> bool:
    return all(_distribution(name) is not None for name in names)


def _version(package: str) -> str | None:
    names = _DISTRIBUTIONS.get(package, (package,))
    return next((version for name in names if (version := _distribution(name))), None)


def _distribution(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
