"""What is benchmarked: a bundle, items it was never trained on, and indexes of them."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.data.photo_origin import photos_digest, recipes_digest
from hficma.data.sample import SampleDataset
from hficma.data.subset import Subset
from hficma.engine import Bundle, build_index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.index.item_encoding import ENCODING_PRECISIONS, EncodingPrecision
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from hficma.progress import Progress

SEED = 1234
SMALLEST_SAMPLE = 100
TRAINED_ON = "sample:3000"
"""What a model is trained on where there is none: about two minutes."""


class Bag(Subset):
    """Some items of a dataset, named so that other items have another name."""

    @property
    def name(self) -> str:
        """Return the dataset's name, and which of its items."""
        digest = hashlib.sha256(self._positions.astype("<i8").tobytes()).hexdigest()[:12]
        return f"{self._dataset.name} ({len(self)} items, {digest})"

    def photo_bytes(self, index: int) -> bytes:
        """Return an item's first photo as a JPEG, as a user would send it."""
        content = BytesIO()
        self.photo(index).save(content, "jpeg", quality=90)
        return content.getvalue()


class IndexKind(NamedTuple):
    """How an index searches (a FAISS factory string), and in what its encodings are stored."""

    prefilter: str
    precision: EncodingPrecision

    @property
    def name(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.prefilter}/{self.precision}"

    @classmethod
    def parse(cls, text: str) -> IndexKind:
        """Read `Flat/fp32`, `SQ8/int8`, `HNSW/fp16`, ...

        Raises:
            InputError: it is not of that form.
        """
        prefilter, _, name = text.partition("/")
        for precision in ENCODING_PRECISIONS:
            if prefilter and name == precision:
                return cls(prefilter, precision)
        raise InputError(
            f"{text}: an index kind is PREFILTER/PRECISION, such as Flat/fp32, SQ8/int8, HNSW/fp16"
        )


def bag_of(data: str | None, trained_on: str | None, size: int) -> tuple[Bag, list[str]]:
    """Draw items that the model was not trained on.

    Args:
        data: a dataset, as `open_dataset` takes it; None takes what the model was trained on.
        trained_on: the training data, None where unknown.
        size: items; fewer where there are fewer.

    Returns:
        the items, and what must be said of them.

    Raises:
        InputError: nothing there, or fewer than two items with photos.
    """
    spec, notes = data or trained_on or TRAINED_ON, list[str]()
    if spec.startswith("sample:") and data in (None, trained_on):
        # Of another seed there are as many as needed, and none was trained on.
        seed = SampleDataset.from_spec(spec).seed + 1
        dataset: Dataset = SampleDataset(max(size, SMALLEST_SAMPLE), seed=seed)
        rows = np.arange(size)
        notes.append(
            f"items are {dataset.name}, synthetic recipes and photos of a seed that was not "
            "trained on"
        )
    else:
        dataset = open_dataset(spec)
        partitions = None if isinstance(dataset, SampleDataset) else ("test",)
        rows = positions(dataset, partitions, with_photo=True)
    if len(rows) < 2:
        raise InputError(f"{spec}: has no test items with photos; --data names another dataset")
    if len(rows) < size:
        notes.append(f"{len(rows):,} items are all there are of the {size:,} asked for")
    order = np.random.default_rng(SEED).permutation(rows)
    return Bag(dataset, np.sort(order[:size])), notes


def query_positions(
    dataset: Dataset, count: int, seed: int = SEED, *, test_only: bool = False
) -> list[int]:
    """Draw positions of test items with photos; of others where the dataset has no test part.

    Raises:
        InputError: no item has a photo, or with `test_only` no test item.
    """
    rows = positions(dataset, ("test",), with_photo=True)
    if not len(rows) and not test_only:
        rows = positions(dataset, with_photo=True)
    if not len(rows):
        raise InputError(f"{dataset.name}: has no photos to ask with; name another --data")
    drawn: list[int] = np.random.default_rng(seed).permutation(rows)[:count].tolist()
    return drawn


def queries_for(data: str, count: int) -> Bag:
    """Return test items of a dataset as queries for an index of it; see `query_positions`."""
    dataset = open_dataset(data)
    return Bag(dataset, np.sort(query_positions(dataset, count, test_only=True)))


def bundle_of(bundle: Path | None, workspace: Workspace, progress: Progress) -> tuple[Path, str]:
    """Return the bundle to benchmark, and a line where one was trained for the purpose.

    None takes the workspace's newest, and where there is none trains a small model.
    """
    bundle = bundle or next(iter(workspace.all("bundle")), None)
    if bundle is not None:
        return bundle, ""
    note = f"no bundle at hand: a small model, trained for this benchmark on {TRAINED_ON}"
    from hficma.training.config.option_files import load_options
    from hficma.training.config.option_values import to_tree

    # Another preset of the same name is another model.
    options = json.dumps([to_tree(load_options("demo")), TRAINED_ON], sort_keys=True)
    key = hashlib.sha256(options.encode()).hexdigest()[:12]
    folder = workspace.cache / "bench"
    trained, run = folder / f"bundle-{key}", folder / f"run-{key}"
    if not trained.exists():
        from hficma.export import export_run
        from hficma.training import train

        progress.note(note)
        # A run that was interrupted goes on; one that is finished has nothing left to do.
        train(
            "demo", data=TRAINED_ON, run=run, resume=run.exists(), workspace=workspace,
            progress=progress,
        )  # fmt: skip
        progress.stage("compiling the branches")
        export_run(run, trained)
    return trained, note


def index_of(
    bundle: Path,
    dataset: Dataset,
    kind: IndexKind,
    of: ItemKind,
    workspace: Workspace,
    progress: Progress,
    execution: ExecutionOptions,
) -> Path:
    """Return an index of a dataset, built unless the workspace's cache holds it already."""
    everything = range(len(dataset))
    # By what it holds, never by the dataset's name, under which that may change.
    content = recipes_digest(dataset, everything)
    if of == "images":
        content += photos_digest(dataset, everything, workspace.cache)
    where = execution.runtime, execution.device
    key = "\n".join((Bundle.open(bundle).model_id, content, kind.name, *where))
    path = workspace.cache / "bench" / f"{of}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not path.exists():
        progress.stage(f"index {of}, {kind.name}", len(dataset))
        before = 0

        def advance(done: int, total: int) -> None:
            nonlocal before
            progress.advance(done - before)
            before = done

        build_index(
            bundle, dataset, path, of=of, side_precision=kind.precision,
            prefilter=kind.prefilter, on_bad=progress.bad, progress=advance,
            **execution.keywords(),
        )  # fmt: skip
    return path
