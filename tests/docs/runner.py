"""Runs what the pages show, at a size that ends in seconds, and says what cannot run here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from gzip import compress
from pathlib import Path
from typing import Any

import typer

from tests.docs.pages import ROOT, Block, commands

SMALL = (
    "model.width=16 model.heads=2 model.global_dim=16 model.word_dim=16 model.sentence_dim=16 "
    "model.ingredient_width=8 model.image.encoder=tiny trunk.weights=random trunk.schedule=frozen "
    "photos.views=0 trainer.epochs=1 trainer.batch_size=16 trainer.device=cpu"
)

CHANGES: dict[str, tuple[str, str]] = {
    # pattern: (replacement, why)
    r"trunk\.weights=\S+": (
        "trunk.weights=random", "no test downloads weights or carries 14 MB of them",
    ),
    r"--hold-out 10%": (
        "--hold-out 25%", "a tenth of 48 pairs are too few test pairs to evaluate",
    ),
    r"--data recipes\.jsonl(?= --hold-out)": (
        "--data unsplit.jsonl", "the recipes.jsonl of these tests names its partitions",
    ),
    r"^(hficma train(?!.*--resume).*)$": (rf"\1 {SMALL}", "25 minutes otherwise"),
    r"sample:(3000|20000|1000)(:1)?": (r"sample:100\2", "drawing dishes takes time"),
    r"^(hficma train(?!.*(--data|--resume)).*)$": (r"\1 --data sample:100", "20,000 otherwise"),
    r"^(hficma vectors words .*)$": (r"\1 --dim 16 --epochs 1 --min-count 1", "two minutes"),
    r'BenchOptions\(setup="1k"\)': (
        'BenchOptions(setup="20", data="sample:100", candidates=(10,), kinds=("Flat/fp32",), '
        "concurrency=(1,), rounds=2, queries=2, compared=1, sweep_seconds=1)",
        "five minutes",
    ),
    r'device="cuda", gpu_memory=8': ('device="cpu"', "needs a GPU"),
    r"^(hficma vectors sentences (?!.*--dim).*)$": (r"\1 --dim 16 --epochs 1", "an hour"),
    r"--dim 256": ("--dim 16 --epochs 1", "twenty minutes"),
    r"--setup (1k|10k)(?= --prefilter)": ("--setup all", "48 pairs fill no bag of 1,000"),
    r"--prefilter 100": ("--prefilter 2", "fewer pairs than that"),
}  # fmt: skip
"""What is changed in a command before it runs, and why. Each pattern must still match a page."""

_NETWORK = "installs packages, which tests do not"
_GPU = "needs a GPU"
_SERVES = "goes on until it is stopped; tests/engine/serving start it and ask it so"
_CLUSTER = "needs a cluster; tests/engine/cluster/test_cluster_page.py runs it over three machines"
_CONTAINERS = "needs a container engine"
_FILES = "weights that no test carries; tests/training/test_brought_encoder.py trains with some"
_FOLDER = "needs weights of hundreds of megabytes; tests/training and tests/engine bring small ones"
_MEASURES = "takes minutes; tests/benchmarks runs its parts at a small size"
_LABELLED = "needs the pairs that were labelled; tests/benchmarks labels its own"

SKIPPED: dict[str, str] = {
    "make demo": "five minutes; the commands below it do the same at a small size",
    "make test": "is what runs this test",
    "make install": _NETWORK,
    "make docs": "what .ci/run does after the tests",
    ".venv/bin/python -m pytest tests/engine/index": "tests that run tests",
    "source .venv/bin/activate": "changes the shell that it is typed into",
    "pip install -e '.[train,data,report,cpu]'": _NETWORK,
    "pip install -e '.[cpu]'": _NETWORK,
    "pip install -e '.[train,data,report,gpu]'": _NETWORK,
    "hficma search --image photo.jpg --device cuda": _GPU,
    "hficma index --data recipes.jsonl --device cuda --out workspace/indexes/on-gpu": _GPU,
    "hficma train --preset best --data recipes.jsonl --devices all trunk.weights=torchvision": _GPU,
    "hficma train --preset hf-icma --data recipe1m --run on-eight --devices 8 "
    "text.vectors=sentences trunk.weights=resnet50_imagenet.safetensors": _GPU,
    "torchrun --nproc-per-node 2 -m hficma.cli train --preset best --data recipes.jsonl "
    "trunk.weights=torchvision": "two processes; tests/training/parallel runs them",
    "hficma train --preset best --data recipes.jsonl model.image.encoder=efficientnet-lite2 "
    "trunk.weights=efficientnet-lite2.pth": _FILES,
    "hficma train --preset best --data recipes.jsonl model.image.encoder=models/dinov2-small": (
        _FILES
    ),
    "pip install -e '.[encoders]'": _NETWORK,
    "hficma export --precision fp16 --precision int8": "a minute; tests/export makes both",
    "hficma convert clip-vit-base-patch32 --out workspace/runs/clip": _FOLDER,
    "hficma export --run workspace/runs/clip --data recipes.jsonl": _FOLDER,
    "hficma train --preset best --data recipes.jsonl model.image.encoder=clip-vit-base-patch32 "
    "model.text.encoder=clip-vit-base-patch32": _FOLDER,
    "hficma train --preset photos --data recipes.jsonl model.image.encoder=dinov2-base "
    "model.text.encoder=all-MiniLM-L6-v2": _FOLDER,
    "hficma export --trt --out workspace/bundles/with-plans": _GPU,
    "hficma bench --setup 10k --device cuda --exhaustive": _GPU,
    "hficma bench screening": _MEASURES,
    "hficma bench gpu --seconds 220 --json bench-gpu.json": _GPU,
    "hficma bench --setup 1k": _MEASURES,
    "hficma bench --setup 10k": _MEASURES,
    "hficma bench --index workspace/indexes/recipes": _MEASURES,
    "hficma bench --compare old.json new.json": "needs two reports; tests/benchmarks makes them",
    "hficma bench training_step": _MEASURES,
    "hficma bench training --size 340000": _MEASURES,
    "hficma bench training --preset hf-icma --device cuda --data recipe1m trunk.weights=random": (
        _GPU
    ),
    "pip install -e '.[cpu,serve]'": _NETWORK,
    "hficma serve": _SERVES,
    "hficma serve --writable --api-key-file keys.txt": _SERVES,
    "hficma bench serve --seconds 5 --overload 10": _MEASURES,
    "curl -F photo=@photo.jpg -F k=3 -F without=peanut http://127.0.0.1:8000/search": _SERVES,
    "curl --data-binary @photo.jpg -H 'content-type: image/jpeg' "
    "'http://127.0.0.1:8000/search?k=3'": _SERVES,
    'curl --json \'{"ingredients": ["tomato", "basil"]}\' http://127.0.0.1:8000/search': _SERVES,
    "pip install -e '.[data,cpu,serve,cluster]'": _NETWORK,
    "ray start --head --port=6379": _CLUSTER,
    "ray start --address=10.0.0.1:6379": _CLUSTER,
    "hficma index --data workspace/data/recipes --out workspace/indexes/all --ray auto": _CLUSTER,
    "hficma search --image photo.jpg --index workspace/indexes/all --ray auto": _CLUSTER,
    "hficma index publish file:///var/backups/recipes --index workspace/indexes/all": _CLUSTER,
    "hficma serve --index workspace/indexes/all --ray auto --replicas 2": _CLUSTER,
    "hficma index publish s3://bucket/recipes --index workspace/indexes/all": _CLUSTER,
    "hficma index fetch s3://bucket/recipes --out workspace/indexes/fetched": _CLUSTER,
    "hficma bench cluster --simulate": _MEASURES,
    "docker build -f containers/Dockerfile -t hficma .": _CONTAINERS,
    "docker compose -f containers/compose.yaml up": _CONTAINERS,
    "hficma bench branches": _MEASURES,
    "hficma bench engine --plot growth.svg --json engine.json": _MEASURES,
    "hficma bench quality --data recipes.jsonl --trunk mobilenet_v2_imagenet.safetensors "
    "--vectors sentences --json report.json": _MEASURES,
    "hficma bench sample_hardness": _MEASURES,
    "hficma bench encoders best=workspace/bundles/demo": _MEASURES,
    "hficma bench quality --data recipes.jsonl --trunk mobilenet_v2_imagenet.safetensors "
    '--vectors words --encoder lite2=efficientnet-lite2.pth --only "EfficientNet-Lite2 + words" '
    "--keep-runs runs --json quality.json": _MEASURES,
    "hficma export --run runs/EfficientNet-Lite2-words-seed-1 --precision fp16 --precision int8 "
    "--out bundles/lite2": "needs that run; tests/export compiles such a model",
    'hficma bench encoders "EfficientNet-Lite2 + words=bundles/lite2" --quality quality.json': (
        _MEASURES
    ),
    "hficma bench pair_scores": _MEASURES,
    "hficma bench pair_scores --json "
    "benchmarks/results/pair-scores-epyc-avx512-2-cores-2026-11-27.json": _MEASURES,
    "hficma bench readme": "writes into the checkout; tests/benchmarks holds what it writes",
    "hficma calibrate": "five trainings; tests/training/sureness calibrates a small run",
    "hficma bench sureness": "needs a calibrated run; tests/benchmarks judges small scores",
    "hficma bench sureness --bundle workspace/bundles/demo --data recipes.jsonl": "needs a "
    "calibrated bundle; tests/benchmarks judges one",
    "hficma bench cookbook --data pairs.jsonl --photos": _LABELLED,
    "hficma bench cookbook --run workspace/runs/best": _LABELLED,
    "hficma bench text_quality --data recipes-text.jsonl.gz --vectors sentences": "48 recipes keep "
    "too few out; tests/benchmarks measures more",
    "hficma bench page-accuracy recipe-scrapers/tests/test_data": "needs pages of another project",
}
"""Commands that cannot run here, by their exact line, and why; their options are still parsed."""

Run = Callable[..., Any]


def changed(command: str) -> str:
    """Return a command with small settings."""
    for pattern, (replacement, _) in CHANGES.items():
        command = re.sub(pattern, replacement, command)
    return command


class Broken(AssertionError):
    """A block that does not do what its page says."""


def run_page(blocks: Iterable[Block], hficma: Run) -> None:
    """Run the blocks of a page in order, in the working directory.

    Args:
        blocks: files are written under their titles, commands and Python are run, and a block
            titled `prints` is compared with what the command before it printed.
        hficma: runs words of the command line in this process, and returns code, out and err.

    Raises:
        Broken: one fails, or prints something else; the message begins with its place.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks:
        try:
            if block.title == "prints":
                start = "\n".join(printed.splitlines()[: block.text.count("\n")]) + "\n"
                assert start == block.text, f"printed {start!r}"
            elif block.title is not None:
                write_file(block.title, block.text)
            elif block.language == "python":
                exec(compile(changed(block.text), block.place, "exec"), names)
            elif block.language == "sh":
                for command in commands(block):
                    printed = run_command(command, hficma)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Broken(f"{block.place}: {error!r}") from error


def write_file(title: str, text: str) -> None:
    """Write a file that a page shows; `ARCHIVE: MEMBER` is a member of a ZIP."""
    name, _, member = title.partition(": ")
    if not member:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return
    content = text.encode()
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr(member, compress(content) if "paprika" in member else content)


def run_command(command: str, hficma: Run) -> str:
    """Run one command with small settings; return what it printed.

    Raises:
        AssertionError: it ends with another code than 0.
    """
    if command in SKIPPED:
        if command.startswith("hficma "):
            parse(shlex.split(command)[1:])
        return ""
    command = changed(command)
    words = shlex.split(command)
    if words[0] == "hficma" and not re.search(r"[|>*]", command):
        ended = hficma(*words[1:])
        assert ended.code == 0, f"{command}: exit code {ended.code}: {ended.err[-2000:]}"
        return str(ended.out)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", command], env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: exit code {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def parse(words: Sequence[str]) -> None:
    """Parse words of the command line without running anything.

    Raises:
        AssertionError: there is no such command, or it takes no such option or value.
    """
    from hficma.cli.application import UsageError, app

    command: Any = typer.main.get_command(app)
    name, rest, parent = "hficma", list(words), None
    try:
        while True:
            context = command.make_context(name, rest, parent=parent, help_option_names=[])
            left = [*getattr(context, "_protected_args", []), *context.args]
            if not hasattr(command, "resolve_command") or not left:
                return
            name, command, rest = command.resolve_command(context, left)
            parent = context
    except typer.Exit:
        return  # an option such as --version, which ends the command by itself
    except UsageError as error:
        # A sentence may leave out what is required.
        if type(error).__name__ != "MissingParameter":
            raise AssertionError(f"hficma {' '.join(words)}: {error.format_message()}") from error


def examples() -> list[Path]:
    """Return the numbered scripts of docs/examples."""
    return sorted((ROOT / "docs" / "examples").glob("*.py"))
