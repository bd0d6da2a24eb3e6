"""The run directory: whole at every moment, and its log."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hficma.artifacts.manifest import read_manifest
from hficma.errors import ArtifactError
from hficma.text.vocabulary import Vocabulary
from hficma.training.runs.log import Log, read_log
from hficma.training.runs.run import RunDirectory, State
from tests.disk import largest_file


def new_run(path: Path) -> RunDirectory:
    return RunDirectory.create(
        path,
        made_by="test",
        options={"trainer": {"epochs": 3}},
        environment={},
        vocabulary=Vocabulary(("salt",), (1,)),
        facts={"best": None, "last": None},
    )


def test_an_older_run_goes_on_with_the_reader_it_began_with(tmp_path: Path) -> None:
    """Its second half would learn from other ingredients than its first."""
    runs = {
        name: RunDirectory.create(
            tmp_path / name, made_by="test", options={"model": {"text": text}}, environment={},
            vocabulary=Vocabulary(("salt",), (1,)), facts={"best": None, "last": None},
        )
        for name, text in (("old", {"title": "none"}), ("new", {"title": "none", "reader": 2}))
    }  # fmt: skip
    readers = {name: run.options["model"]["text"]["reader"] for name, run in runs.items()}
    assert readers == {"old": 1, "new": 2}


def save(run: RunDirectory, epoch: int, *, best: bool) -> None:
    weights = {"layer": torch.full((3,), float(epoch))}
    state = State({"adam.step.layer": torch.tensor(float(epoch))}, {"epoch": epoch})
    run.save_checkpoint(epoch, weights, state, best={"recall_sum": epoch} if best else None)


def test_only_the_best_and_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    for epoch, best in ((1, True), (2, True), (3, False), (4, False)):
        save(run, epoch, best=best)
    files = {file.name for file in (run.path / "checkpoints").iterdir()}
    assert files == {
        "0002.safetensors", "0004.safetensors", "0004.state.safetensors", "0004.state.json",
    }  # fmt: skip
    facts = read_manifest(run.path, kind="run").facts
    assert (facts["best"]["epoch"], facts["last"]["epoch"]) == (2, 4)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    assert run.load_checkpoint() is None
    save(run, 1, best=True)
    checkpoint = RunDirectory.open(run.path).load_checkpoint()
    assert checkpoint is not None
    weights, state = checkpoint
    assert weights["layer"].tolist() == [1, 1, 1]
    assert state.record == {"epoch": 1}


def test_a_changed_checkpoint_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    save(run, 1, best=True)
    (run.path / "checkpoints/0001.safetensors").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="SHA-256"):
        RunDirectory.open(run.path).load_checkpoint()


def test_files_of_a_killed_checkpoint_are_swept(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    save(run, 1, best=True)
    (run.path / "checkpoints/0002.safetensors").write_bytes(b"half")
    (run.path / "checkpoints/.0002.safetensors.part").write_bytes(b"half")
    RunDirectory.open(run.path).sweep()
    assert all(file.name.startswith("0001") for file in (run.path / "checkpoints").iterdir())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """Half a checkpoint stayed on the full disk, and the line named neither run nor remedy."""
    run = new_run(tmp_path / "run")
    save(run, 1, best=True)
    message = r"run: cannot be written \(.*\); the checkpoint of epoch 1 is kept: .*resume"
    with pytest.raises(ArtifactError, match=message), run.writing(), largest_file(50):
        save(run, 2, best=True)
    assert [path.name for path in run.path.rglob("*") if "0002" in path.name] == []
    checkpoint = RunDirectory.open(run.path).load_checkpoint()
    assert checkpoint is not None
    assert checkpoint[1].record == {"epoch": 1}


def test_one_process_writes_a_run(tmp_path: Path) -> None:
    """Two that went on with one run mixed their checkpoints, or undid each other's epochs."""
    run = new_run(tmp_path / "run")
    other = RunDirectory.open(run.path)
    with run.writing():
        with pytest.raises(ArtifactError, match="another process is writing"), other.writing():
            pass
        save(run, 1, best=True)
    with pytest.raises(ArtifactError, match="has written to it meanwhile"), other.writing():
        pass


@pytest.mark.parametrize("name", ["checkpoints", "log.jsonl", "events", ".lock", "evaluations"])
def test_a_link_in_a_run_leads_nowhere(tmp_path: Path, name: str) -> None:
    """Going on with a stranger's run emptied the folder that its checkpoints pointed to."""
    run = new_run(tmp_path / "run")
    target = tmp_path / "photos"
    target.mkdir()
    (target / "mine.jpg").write_text("precious")
    place, is_file = run.path / name, name in ("log.jsonl", ".lock")
    if place.exists():
        place.rename(tmp_path / "before")
    place.symlink_to(target / "mine.jpg" if is_file else target)
    with pytest.raises(ArtifactError, match="is a link"), run.writing():
        run.save_evaluation("test", {})
    assert [path.name for path in target.iterdir()] == ["mine.jpg"]
    assert (target / "mine.jpg").read_text() == "precious"


def test_an_evaluation_cannot_be_named_out_of_the_run(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with pytest.raises(ArtifactError, match="name"):
        run.save_evaluation("../../elsewhere", {})
    assert run.save_evaluation("test-1k", {"items": 1}).is_file()


def test_the_log_forgets_what_lies_beyond_the_checkpoint(tmp_path: Path) -> None:
    """Otherwise a resumed run logs its epochs twice, and a line cut by a kill breaks it."""
    run = new_run(tmp_path / "run")
    log = Log(run.path, step=0)
    for epoch in (1, 2):
        log.add({"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "train": {"loss": 1.0}})
    log.close()
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "epo')
    Log(run.path, step=10).close()
    assert [record["epoch"] for record in read_log(run.path)] == [1]


def test_a_log_survives_what_opens_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written anew in its place, a kill at that moment would take every epoch's line."""
    (tmp_path / "log.jsonl").write_text('{"epoch": 1, "step": 3}\n{"epoch": 2, "step": 6}\n')

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Log(tmp_path, step=3)
    assert [record["epoch"] for record in read_log(tmp_path)] == [1, 2]
    Log(tmp_path, step=3).close()
    assert [record["epoch"] for record in read_log(tmp_path)] == [1]


def test_a_run_killed_before_its_log_began_goes_on(tmp_path: Path) -> None:
    """The run stands before its log does."""
    log = Log(tmp_path, step=0)
    log.add({"kind": "epoch", "epoch": 1, "step": 1})
    log.close()
    assert len(read_log(tmp_path)) == 1
