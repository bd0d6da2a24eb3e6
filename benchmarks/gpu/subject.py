"""What is measured: a model of random weights, photos of noise, and indexes that nobody wrote.

Speed depends on none of what is in them, so no network and no data are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from hficma.engine import Bundle, Engine
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import EncodingPrecision, Level
from hficma.errors import HficmaError
from hficma.images import decode_photo
from hficma.model import ImageConfig, ModelConfig
from hficma.recipe import Recipe

from ..common.synthetic_index import REAL_LENGTHS, WORDS, random_model, synthetic_index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.synchronize import Event

    from hficma.model import Model

GIB = 2**30
PHOTO_SIZE = (640, 480)
"""Pixels of a photo's file, as phones send it."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large everything is."""

    width: int
    """D."""
    heads: int
    """H."""
    encoder: str
    """Of photos."""
    recipes: int
    """Of the index that is searched, for a run of four minutes."""
    prefilter_recipes: int
    """Of the indexes whose prefilters are compared."""
    precision_recipes: int
    """Of those whose encodings' precisions are compared: all of them are scored exactly."""
    candidates: tuple[int, ...]
    """Re-ranked for one photo."""
    blocks: tuple[tuple[int, int], ...]
    """Photos and recipes that are scored together."""
    exhaustive: tuple[int, int]
    """Photos and recipes of a block of exhaustive scoring."""
    batches: tuple[int, ...]
    """Photos that are encoded together."""
    photos: int
    """Drawn."""
    gemm: int
    """Rows of the matrices of a product."""
    copied: int
    """Bytes of a copy."""


STORED: tuple[tuple[Level, EncodingPrecision], ...] = (
    ("tokens", "fp32"), ("tokens", "fp16"), ("tokens", "int8"), ("projections", "fp16"),
)  # fmt: skip
"""Levels and precisions of stored encodings that are compared."""
PREFILTERS = ("Flat", "SQ8", "IVF,SQ8", "HNSW")
"""Kinds that are compared, the slowest to make last."""

FULL = Sizes(
    width=1024, heads=8, encoder="resnet50", recipes=100_000, prefilter_recipes=20_000,
    precision_recipes=2_000, candidates=(200, 1000), blocks=((1, 1000), (64, 64), (256, 256)),
    exhaustive=(256, 1024), batches=(1, 32, 256), photos=256, gemm=8192, copied=2**30,
)  # fmt: skip
TINY = Sizes(
    width=32, heads=4, encoder="tiny", recipes=120, prefilter_recipes=300, precision_recipes=40,
    candidates=(20,), blocks=((1, 20), (4, 4)), exhaustive=(4, 8), batches=(1, 4), photos=6,
    gemm=128, copied=2**16,
)  # fmt: skip


class Subject:
    """Everything that is measured, made when it is first needed.

    Args:
        sizes: of everything.
        device: where it runs.
        folder: for bundles and indexes.
        recipes: of the index that is searched.
        maker_ended: set when another process, which makes the same in this folder by `make_all`,
            has ended; None where there is none, and everything is made here.
    """

    def __init__(
        self,
        sizes: Sizes,
        device: torch.device,
        folder: Path,
        recipes: int,
        maker_ended: Event | None = None,
    ) -> None:
        self.sizes = sizes
        self.device = device
        self.folder = folder
        self.recipes = recipes
        self._maker_ended = maker_ended
        self.encoder = sizes.encoder
        """Of photos: another than that of the sizes where its library is not there."""

    @cached_property
    def model(self) -> Model:
        """A model of random weights, on the CPU."""
        config = ModelConfig(
            width=self.sizes.width, heads=self.sizes.heads,
            image=ImageConfig(encoder=self.encoder), word_dim=64, sentence="mean",
        )  # fmt: skip
        try:
            return random_model(_joinable(config), WORDS)
        except (HficmaError, ImportError):
            self.encoder = "tiny"
            image = ImageConfig(encoder="tiny")
            return random_model(_joinable(replace(config, image=image)), WORDS)

    @cached_property
    def bundle(self) -> Path:
        """A bundle of the model, in fp32."""
        from hficma.export import export_model

        path = self.folder / "bundle"
        if self._is_made(path):
            return path
        return export_model(self.model, path, runtimes=())

    @cached_property
    def photos(self) -> list[bytes]:
        """JPEG files of smooth noise."""
        rng = np.random.default_rng(0)
        files = []
        for _ in range(self.sizes.photos):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            content = BytesIO()
            coarse.resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(content, "jpeg", quality=90)
            files.append(content.getvalue())
        return files

    @cached_property
    def index(self) -> Path:
        """The index that is searched: tokens in fp16."""
        return self.index_of(self.recipes)

    def index_of(
        self,
        recipes: int,
        *,
        level: Level = "tokens",
        precision: EncodingPrecision = "fp16",
        prefilter: str = "Flat",
        lengths: Sequence[int] = REAL_LENGTHS,
    ) -> Path:
        """Return an index of so many recipes, made when it is first asked for."""
        name = f"{recipes}-{level}-{precision}-{prefilter.replace(',', '-')}-{len(lengths)}"
        path = self.folder / name
        if self._is_made(path):
            return path
        return synthetic_index(
            self.bundle, path, recipes,
            level=level, precision=precision, prefilter=prefilter, lengths=lengths,
        )  # fmt: skip

    def prefilter_index(self, kind: str) -> Path:
        """Return the index whose prefilter of a kind is measured; its items have one token."""
        return self.index_of(self.sizes.prefilter_recipes, prefilter=kind, lengths=(1,))

    def make_all(self) -> None:
        """Make the bundle and all indexes, in the order in which they are measured."""
        self.index_of(self.recipes)
        for level, precision in STORED:
            self.index_of(self.sizes.precision_recipes, level=level, precision=precision)
        for kind in PREFILTERS:
            self.prefilter_index(kind)

    def _is_made(self, path: Path) -> bool:
        """Return whether a folder is there, after waiting for whoever makes it."""
        while not path.exists():
            if self._maker_ended is None or self._maker_ended.wait(0.1):
                return path.exists()
        return True

    def open_engine(self, index: Path, memory: int | None = None) -> Engine:
        """Open an index on the device, or on torch's CPU device by the GPU's code.

        Args:
            index: of the model.
            memory: bytes of the device that it may take; None takes half of what is free.
        """
        if self.device.type == "cuda":
            limit = None if memory is None else memory / GIB
            return Engine.open(index, bundle=self.bundle, device=str(self.device), gpu_memory=limit)
        from hficma.engine.engine import GPU_BATCHES
        from hficma.engine.gpu.gpu_index import GpuIndex
        from hficma.engine.gpu.gpu_scorer import GpuScorer
        from hficma.engine.gpu.query_pipeline import QueryPipeline
        from hficma.engine.opening import open_pool
        from hficma.engine.retrieval.search import Searcher
        from hficma.engine.runtimes.options import ExecutionOptions

        opened = Index.open(index)
        bundle = Bundle.open(self.bundle, ExecutionOptions(runtime="torch"))
        pool = open_pool(2)
        gpu_index = GpuIndex(
            opened, bundle.facts.heads, self.device, GIB if memory is None else memory
        )
        pipeline = QueryPipeline(bundle, self.device)
        searcher = Searcher(opened, bundle, GpuScorer(gpu_index, bundle), pool, pipeline)
        return Engine(opened, bundle, searcher, pool, batches=GPU_BATCHES)


class PhotoDataset:
    """Recipes of the model's words with photos of noise, decoded when they are read.

    Args:
        photos: files that the recipes have in turns.
        count: N recipes.
        first: number of the first one's id.
    """

    def __init__(self, photos: Sequence[bytes], count: int, first: int = 0) -> None:
        self._photos, self._count, self._first = photos, count, first

    @property
    def name(self) -> str:
        """Return what they are."""
        return f"noise:{self._count}"

    def __len__(self) -> int:
        """Return N."""
        return self._count

    def recipe(self, position: int) -> Recipe:
        """Return a recipe of nine ingredients and three instructions."""
        rng = np.random.default_rng(self._first + position)
        words = [f"word{number}" for number in rng.integers(0, WORDS, 24)]
        return Recipe(
            id=f"drawn-{self._first + position}",
            title=words[0],
            ingredients=tuple(words[:9]),
            instructions=tuple(" ".join(words[start : start + 5]) for start in (9, 14, 19)),
            image=f"{position}.jpg",
        )

    def photo(self, position: int) -> Image.Image:
        """Return a recipe's photo."""
        return decode_photo(self._photos[position % len(self._photos)], name=f"photo {position}")


def _joinable(config: ModelConfig) -> ModelConfig:
    """Return the options with what brings global vectors to one width, where theirs differ."""
    if config.image.encoder == "tiny":
        return replace(config, global_dim=config.width)
    return config
