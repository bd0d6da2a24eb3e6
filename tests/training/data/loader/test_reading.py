"""Photos that are read in every epoch: the same whatever reads them, and whatever is damaged."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import RecipeList, open_dataset
from hficma.data.directory import DatasetDirectory
from hficma.data.partitions import Partitioned
from hficma.data.photos import reduced_photo
from hficma.data.sources.plain import DatasetSource
from hficma.data.sources.source import SourceRecipe
from hficma.data.store.importing import import_dataset
from hficma.data.subset import Subset
from hficma.errors import InputError
from hficma.images import ImageInput
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.training import train
from hficma.training.data.loader.batches import PhotoBatch, PhotoBatches, Request, Shown
from hficma.training.data.loader.limits import readable_size
from hficma.training.data.loader.loader import Loader
from hficma.training.data.loader.workers import SHARED_MEMORY, batches_ahead
from hficma.training.data.photo_views import halved, square
from hficma.training.runs.log import read_log
from tests.training.conftest import SMALL

Trained = Callable[..., Path]
SIZE = ImageInput(size=56, short_side=64)
READ = ("loader.cache_limit=0", "photos.views=1", "text.drop_items=0.2", "photos.window=0.5")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> RecipeList:
    """Eight pairs, of which the photo at 2 is cut off."""
    folder, sample = tmp_path_factory.mktemp("photos"), open_dataset("sample:100")
    for index in range(8):
        sample.photo(index).save(folder / f"{index}.jpg", quality=92)
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(whole[: len(whole) // 3])
    recipes = [Recipe(id=str(index), image=f"{index}.jpg") for index in range(8)]
    return RecipeList(recipes, name="photos", folder=folder)


def requests(*batches: Sequence[int], epoch: int = 1, small: bool = False) -> list[Request]:
    return [Request(epoch, np.array(rows), True, small) for rows in batches]


def loader(photos: RecipeList, workers: int, train: Sequence[int] = range(8)) -> Loader:
    rows = np.arange(8)
    shown = Shown(image_input=SIZE)

    def batches(buffers: Tensor | None) -> PhotoBatches:
        return PhotoBatches(photos, rows, np.array(train), shown, seed=3, buffers=buffers)

    return Loader(batches, workers=workers, device=torch.device("cpu"), batch_bytes=20_000)


def test_what_is_shown_of_a_pair_depends_on_no_worker_batch_or_place(photos: RecipeList) -> None:
    """Else a run that goes on, on another machine or from the middle of an epoch, is another."""
    epoch = requests([0, 1], [3, 4], [5, 6], [7])
    alone = [batch.pixels.clone() for batch in loader(photos, 0).epoch(epoch)]
    both = loader(photos, 2)
    for first in (0, 2, 0):  # a whole epoch, the rest of one, and once more by the same workers
        read = [batch.pixels.clone() for batch in both.epoch(epoch[first:])]
        assert len(read) == len(epoch) - first
        assert all(map(torch.equal, read, alone[first:]))
    (other,) = loader(photos, 0).epoch(requests([6, 0]))
    assert torch.equal(other.pixels[1], alone[0][0])
    (later,) = loader(photos, 0).epoch(requests([0, 1], epoch=2))
    assert not torch.equal(later.pixels, alone[0])


def test_stored_photos_are_shown_as_their_files_are(tmp_path: Path) -> None:
    """They are cropped as they are decoded, others as images that are scaled first."""
    import_dataset(
        DatasetSource(Subset(open_dataset("sample:100"), np.arange(4))), tmp_path / "stored"
    )
    stored = DatasetDirectory(tmp_path / "stored")
    for row in range(4):
        (tmp_path / f"{row}.jpg").write_bytes(stored.jpeg(row))
    recipes = [Recipe(id=str(row), image=f"{row}.jpg") for row in range(4)]
    files = RecipeList(recipes, name="files", folder=tmp_path)
    rows = np.arange(4)
    for shown in (
        Shown(image_input=ImageInput()),
        Shown(image_input=ImageInput(size=100, short_side=120)),
        Shown(image_input=ImageInput(), crops=5, views=2, scale=0.5),
    ):
        for square_, small in ((True, False), (True, True), (False, False)):
            one, other = (
                PhotoBatches(dataset, rows, rows, shown, seed=1)[Request(1, rows, square_, small)]
                for dataset in (Partitioned(stored, {}), files)
            )
            assert isinstance(one.pixels, Tensor)
            assert isinstance(other.pixels, Tensor)
            assert torch.equal(one.pixels, other.pixels)


def test_each_epoch_shows_one_of_a_recipes_photos(tmp_path: Path) -> None:
    """Of five photos the published training shows all, one an epoch; of one, that one."""

    class Several(DatasetSource):
        def recipes(self, **arguments: Any) -> Iterator[SourceRecipe]:
            for number, one in enumerate(super().recipes(**arguments)):
                yield SourceRecipe(recipe=one.recipe, images=("0", "1", "2", "3")[: 4 - number])

        def photo(self, image: str) -> bytes:
            content = io.BytesIO()
            Image.new("RGB", (64, 64), (60 * int(image),) * 3).save(content, "JPEG")
            return content.getvalue()

    import_dataset(Several(Subset(open_dataset("sample:100"), np.arange(4))), tmp_path / "stored")
    stored = DatasetDirectory(tmp_path / "stored")
    rows = np.arange(4)
    batches = PhotoBatches(stored, rows, rows, Shown(image_input=SIZE, per_recipe=3), seed=1)
    seen: list[set[int]] = [set() for _ in rows]
    for epoch in range(1, 25):
        pixels = batches[Request(epoch, rows, True, False)].pixels
        assert isinstance(pixels, Tensor)
        for row, mean in zip(rows, pixels.float().mean(dim=(1, 2, 3)).tolist(), strict=True):
            seen[row].add(round(mean / 60))
    assert seen == [{0, 1, 2}, {0, 1, 2}, {0, 1}, {0}]


def test_a_damaged_photo_is_named_and_another_pair_stands_in(photos: RecipeList) -> None:
    """One file of a million that is cut off must not end a training of days."""
    (batch,) = loader(photos, 0).epoch(requests([1, 2, 3]))
    assert batch.rows[[0, 2]].tolist() == [1, 3]
    assert batch.rows[1] not in (1, 2, 3)
    ((row, complaint),) = batch.complaints
    assert row == 2
    assert "2.jpg" in complaint
    assert "\n" not in complaint
    (again,) = loader(photos, 1).epoch(requests([1, 2, 3]))
    assert np.array_equal(again.rows, batch.rows)
    assert torch.equal(again.pixels, batch.pixels)
    # Where there is no other pair, one of the batch is there twice: its size must stay.
    (full,) = loader(photos, 0, train=[1, 2]).epoch(requests([1, 2]))
    assert full.rows.tolist() == [1, 1]


def test_without_any_photo_the_epoch_ends_in_one_line(photos: RecipeList) -> None:
    """A disk that is gone must not be taken for a million damaged photos."""
    with pytest.raises(InputError, match=r"photos cannot be read.*2\.jpg") as error:
        list(loader(photos, 1, train=[2]).epoch(requests([2])))
    assert "\n" not in str(error.value)


def test_a_worker_that_is_killed_ends_the_epoch_in_one_line(photos: RecipeList) -> None:
    """The kernel ends workers where memory is short; torch's message is a page long."""

    class Deadly(PhotoBatches):
        def __getitem__(self, request: Request) -> PhotoBatch:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    batches = Deadly(photos, np.arange(8), np.arange(8), Shown(image_input=SIZE), seed=3)
    deadly = Loader(lambda *_: batches, workers=1, device=torch.device("cpu"), batch_bytes=10_000)
    with pytest.raises(InputError, match=r"loader\.workers") as error:
        list(deadly.epoch(requests([0])))
    assert "\n" not in str(error.value)


def test_small_photos_are_decoded_small_and_look_the_same(photos: RecipeList) -> None:
    """The decoder's reduced size stands for the mean of 2 x 2 pixels that cached photos show."""
    whole = ImageInput(size=224, short_side=256)
    half = ImageInput(size=112, short_side=128)
    small = reduced_photo(photos, 0, 128)
    assert min(small.size) == 128
    expected = halved(np.array(square(photos.photo(0), whole))[None])[0].astype(float)
    assert np.abs(square(small, half).astype(float) - expected).mean() < 2.5


def test_a_run_reads_photos_alike_with_any_number_of_workers(trained: Trained) -> None:
    """And validates, resumes and ends as a run from the cache does."""
    runs = {workers: f"loader.workers={workers}" for workers in (0, 2)}
    first, second = (trained(f"read-{n}", *READ, option) for n, option in runs.items())
    weights, others = (
        load_file(run / read_manifest(run, kind="run").facts["last"]["file"])
        for run in (first, second)
    )
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    epochs = [record for record in read_log(first) if record["kind"] == "epoch"]
    assert epochs[-1]["validation"]["image_to_recipe"]["queries"] > 1
    tuned = ("trunk.schedule=tuned", "photos.small=0.5", "photos.window=1", "trainer.epochs=1")
    assert read_log(trained("read-tuned", *READ, *tuned, "loader.workers=1"))


def test_a_photo_that_is_damaged_during_training_is_told_of(
    tmp_path: Path, workspace: Workspace
) -> None:
    """The run goes on, and its user learns which file to mend."""
    sample = open_dataset("sample:100")
    lines = []
    for index in range(40):
        sample.photo(index).save(tmp_path / f"{index}.jpg")
        part = "val" if index < 8 else "train"
        record = sample.recipe(index).to_json() | {"image": f"{index}.jpg", "partition": part}
        lines.append(json.dumps(record))
    (tmp_path / "recipes.jsonl").write_text("\n".join(lines))
    damaged = (tmp_path / "30.jpg").read_bytes()
    (tmp_path / "30.jpg").write_bytes(damaged[:2000])

    heard: list[str] = []

    class Ear(Progress):
        def bad(self, message: str) -> None:
            heard.append(message)

        def note(self, text: str) -> None:
            heard.append(text)

    run = train(
        "hf-icma-small", [*SMALL, "loader.cache_limit=0", "loader.workers=1"],
        data=str(tmp_path / "recipes.jsonl"), run=tmp_path / "run", workspace=workspace,
        progress=Ear(),
    )  # fmt: skip
    assert read_manifest(run, kind="run").facts["last"]["epoch"] == 2
    assert sum("30.jpg" in line for line in heard) == 2, "once by name, once as the first"
    assert any("read in every epoch" in line for line in heard)


def test_sizes_are_said_in_units_of_thousands() -> None:
    assert readable_size(380 * 10**9) == "380.0 GB"


def test_batches_that_shared_memory_cannot_hold_are_made_by_fewer_workers() -> None:
    """In a container of 64 MB a batch too many ends its reader (SIGBUS)."""
    assert batches_ahead(2, 1000) == (2, 2)
    assert batches_ahead(4, 10**15) == (0, 1)


def test_batches_that_no_shared_memory_holds_are_read_by_the_training_process(
    photos: RecipeList,
) -> None:
    """A container's little shared memory must make a training slower, and not end it."""
    if not SHARED_MEMORY.is_dir():
        pytest.skip("this system has no /dev/shm")
    rows = np.arange(8)
    alone = Loader(
        lambda buffers: PhotoBatches(
            photos, rows, rows, Shown(image_input=SIZE), seed=3, buffers=buffers
        ),
        workers=2, device=torch.device("cpu"), batch_bytes=10**15,
    )  # fmt: skip
    assert alone.workers == 0
    (batch,) = alone.epoch(requests([0, 1]))
    assert isinstance(batch.pixels, Tensor)


def test_processes_that_train_beside_each_other_share_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each that counted all of it for itself would write past its end, and its reader be killed."""
    if not SHARED_MEMORY.is_dir():
        pytest.skip("this system has no /dev/shm")
    batch_bytes = shutil.disk_usage(SHARED_MEMORY).free // 10
    assert batches_ahead(2, batch_bytes) == (2, 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert batches_ahead(2, batch_bytes) == (1, 1)
