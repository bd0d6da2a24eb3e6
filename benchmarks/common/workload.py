"""What is benchmarked: a bundle, items it was never trained on, and indexes of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.data.photo_origin import photo_origin, photos_digest, recipes_digest
from hficma.data.sample import SampleDataset
from hficma.engine import Bundle, build_index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.index.item_encoding import PRECISIONS, Precision
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from hficma.progress import Progress
from hficma.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

SEED = 1234
SMALLEST_SAMPLE = 100
TRAINED_ON = "sample:3000"
"""What a model is trained on where there is none: about two minutes."""

Positions = npt.NDArray[np.int64]


class Bag:
    """Some items of a dataset, as a dataset.

    Args:
        dataset: holds them.
        rows: (N,) their positions there.
    """

    def __init__(self, dataset: Dataset, rows: Positions) -> None:
        self._dataset = dataset
        self._rows = rows

    @property
    def name(self) -> str:
        """The dataset's, and which of its items."""
        digest = hashlib.sha256(self._rows.astype("<i8").tobytes())
        return f"{self._dataset.name} ({len(self._rows)} items, {digest.hexdigest()[:12]})"

    def __len__(self) -> int:
        return len(self._rows)

    def recipe(self, index: int) -> Recipe:
        """The recipe at a position."""
        return self._dataset.recipe(int(self._rows[index]))

    def photo(self, index: int) -> Image:
        """Its first photo."""
        return self._dataset.photo(int(self._rows[index]))

    def photo_origin(self, index: int) -> Path | str:
        """Where its bytes are."""
        return photo_origin(self._dataset, int(self._rows[index]))

    def photo_bytes(self, index: int) -> bytes:
        """Its first photo as a JPEG, as a user would send it."""
        content = BytesIO()
        self.photo(index).save(content, "jpeg", quality=90)
        return content.getvalue()


@dataclass(frozen=True)
class IndexKind:
    """How an index searches and what it keeps."""

    prefilter: str
    """FAISS factory string."""
    side_precision: Precision
    """Of the sides."""

    @property
    def name(self) -> str:
        """As `parse` reads it."""
        return f"{self.prefilter}/{self.side_precision}"

    @classmethod
    def parse(cls, text: str) -> IndexKind:
        """Read `Flat/fp32`, `SQ8/int8`, `HNSW/fp16`, ...

        Raises:
            InputError: it is not of that form.
        """
        prefilter, _, wanted = text.partition("/")
        for precision in PRECISIONS:
            if prefilter and wanted == precision:
                return cls(prefilter, precision)
        raise InputError(
            f"{text}: an index kind is PREFILTER/PRECISION, such as Flat/fp32, SQ8/int8, HNSW/fp16"
        )


def bags_of(
    data: str | None, trained_on: str | None, *, size: int, count: int | None
) -> tuple[list[Bag], list[str]]:
    """Disjoint bags of items that the model was not trained on.

    Args:
        data: what `open_dataset` takes; None takes what the model was trained on.
        trained_on: the same of the training data, None where unknown.
        size: items a bag; fewer where there are fewer.
        count: bags; None takes 10, or 5 above 1,000 items, fewer where the items are fewer.

    Returns:
        the bags, and what must be said of them.

    Raises:
        InputError: nothing there, or fewer than two items with photos.
    """
    spec, notes = data or trained_on or TRAINED_ON, list[str]()
    if _is_sample(spec) and (data is None or data == trained_on):
        seed = SampleDataset.from_spec(spec).seed
        dataset: Dataset = SampleDataset(max(size, SMALLEST_SAMPLE), seed=seed + 1)
        rows = np.arange(size)
        notes.append(
            f"items are {dataset.name}, synthetic recipes and photos of a seed that was not "
            "trained on: one bag"
        )
    else:
        dataset = open_dataset(spec)
        unseen = isinstance(dataset, SampleDataset)
        rows = positions(dataset, None if unseen else ("test",), with_photo=True)
    if len(rows) < 2:
        raise InputError(f"{spec}: has no test items with photos; --data names another dataset")
    if len(rows) < size:
        notes.append(f"{len(rows):,} items are fewer than the {size:,} of a bag: one bag of all")
    most = count or (10 if size <= 1000 else 5)
    bags = max(1, min(most, len(rows) // size))
    drawn = np.random.default_rng(SEED).permutation(rows)
    return [Bag(dataset, np.sort(drawn[i * size : (i + 1) * size])) for i in range(bags)], notes


def queries_for(data: str, size: int) -> Bag:
    """Test items of a dataset, as queries for an index of it.

    Raises:
        InputError: it has none with photos.
    """
    dataset = open_dataset(data)
    rows = positions(dataset, ("test",), with_photo=True)
    if not len(rows):
        raise InputError(f"{data}: has no test items with photos to ask with; name another --data")
    drawn = np.random.default_rng(SEED).permutation(rows)[:size]
    return Bag(dataset, np.sort(drawn))


def bundle_of(bundle: Path | None, workspace: Workspace, progress: Progress) -> tuple[Path, str]:
    """The bundle to benchmark, and a line where one had to be made.

    Args:
        bundle: asked for; None takes the newest, and where there is none trains a small model.
        workspace: where bundles and the cache are.
        progress: told of the training.
    """
    if bundle is not None:
        return bundle, ""
    if found := workspace.all("bundle"):
        return found[0], ""
    note = f"no bundle at hand: a small model, trained for this benchmark on {TRAINED_ON}"
    from hficma.training.config.option_files import load_options
    from hficma.training.config.option_values import to_tree

    # Another preset of the same name is another model.
    options = json.dumps([to_tree(load_options("demo")), TRAINED_ON], sort_keys=True)
    key = hashlib.sha256(options.encode()).hexdigest()[:12]
    folder = workspace.cache / "bench"
    made, run = folder / f"bundle-{key}", folder / f"run-{key}"
    if not made.exists():
        from hficma.export import export_run
        from hficma.training import train

        progress.note(note)
        # One that was interrupted goes on; one that is finished has nothing left to do.
        begun = run.exists()
        train(
            "demo", data=TRAINED_ON, run=run, resume=begun, workspace=workspace, progress=progress
        )
        progress.stage("compiling the branches")
        export_run(run, made)
    return made, note


def index_of(
    bundle: Path,
    bag: Bag,
    kind: IndexKind,
    of: ItemKind,
    workspace: Workspace,
    progress: Progress,
    execution: ExecutionOptions,
) -> Path:
    """An index of a bag, kept in the workspace's cache for the next run."""
    content = content_of(bag, of, workspace.cache)
    key = "\n".join(
        (Bundle.open(bundle).model_id, content, kind.name, execution.runtime, execution.device)
    )
    name = f"{of}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    path = workspace.cache / "bench" / name
    if not path.exists():
        progress.stage(f"index {of}, {kind.name}", len(bag))
        told = 0

        def advance(done: int, total: int) -> None:
            nonlocal told
            progress.advance(done - told)
            told = done

        build_index(
            bundle, bag, path, of=of, side_precision=kind.side_precision,
            prefilter=kind.prefilter, on_bad=progress.bad, progress=advance,
            **execution.keywords(),
        )  # fmt: skip
    return path


def content_of(dataset: Dataset, of: ItemKind, cache: Path) -> str:
    """A digest of what an index of a dataset holds; never of its name, under which it changes."""
    everything = range(len(dataset))
    recipes = recipes_digest(dataset, everything)
    return recipes if of == "recipes" else recipes + photos_digest(dataset, everything, cache)


def _is_sample(spec: str) -> bool:
    return spec.startswith("sample:")


def seeds(bags: Sequence[Bag]) -> dict[str, object]:
    """What must be known to draw the same bags again."""
    return {"bags": len(bags), "sizes": [len(bag) for bag in bags], "seed": SEED}
