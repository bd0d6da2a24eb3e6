"""An export that is killed or finds the disk full leaves nothing, and says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hficma.errors import ArtifactError
from hficma.export import export_model, exporter
from tests.model.factories import make_model

KILLED = """
import os, signal
from pathlib import Path
from hficma.artifacts.manifest import new_directory

with new_directory(Path("{out}"), kind="bundle", made_by="hficma export") as (building, facts):
    (building / "onnx").mkdir()
    (building / "onnx" / "image.fp32.onnx").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", ["_write_model", "_write_graphs", "_prove"])
def test_a_full_disk_is_one_line(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writer says it in words of its own: SafetensorError ended in a traceback.

    A limit of the size of files stands for the disk: the system refuses the bytes beyond it, in
    the writer's own call.
    """
    resource = pytest.importorskip("resource", reason="limits of files are POSIX's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = getattr(exporter, step)

    def on_a_full_disk(*arguments: object) -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        return write(*arguments)

    monkeypatch.setattr(exporter, step, on_a_full_disk)
    try:
        with pytest.raises(ArtifactError, match=r"bundle: cannot be written \(.*large") as caught:
            export_model(make_model("adamine"), tmp_path / "bundle", runtimes=("onnxruntime",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_next_export_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    """27 MB for every killed export stayed for ever."""
    program = KILLED.format(out=tmp_path / "killed")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
    out = export_model(make_model("adamine"), tmp_path / "bundle", runtimes=("onnxruntime",))
    assert list(tmp_path.iterdir()) == [out]
