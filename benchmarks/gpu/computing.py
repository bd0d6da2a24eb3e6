"""What a device computes: its ceilings, photos encoded, pairs scored in every form."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from hficma.engine.gpu.kernels.packed_items import PackedItems, pack_items
from hficma.engine.gpu.kernels.pair_scores import kernel_weights, score_groups
from hficma.engine.runtimes.captured import CapturedCalls
from hficma.engine.runtimes.torch_backend import full_float32
from hficma.model.fusion import CrossFusion
from hficma.model.graphs import branches
from hficma.model.numerics import unit_rows
from hficma.model.published_attention import published_scores
from hficma.model.similarity import FoldedWeights, PaddedEncodings, pair_block, project, tabulate

from ..common.costs import pair_multiply_adds
from ..common.report import Column, Figure, Table
from ..common.timing import REGIONS
from .measuring import Cases, Cells, Clock, DeviceTimer, median
from .subject import Subject

PUBLISHED_BLOCK = 64
"""Pairs that the published graph scores at once: it makes 100 MB for each hundred."""
LENGTHS = (20, 9)
"""Ingredients: the most that a recipe has, and as many as most have."""
COMPILE_SECONDS = 45.0
"""Seconds that must be left for torch's compiler, which nothing interrupts."""
NARROW = torch.float16


class Ceilings:
    """What the device can do, which every other figure is held against.

    Args:
        subject: its sizes and device.
        clock: of the run.
        timer: of the device.
    """

    def __init__(self, subject: Subject, clock: Clock, timer: DeviceTimer) -> None:
        self._subject, self._timer = subject, timer
        self._cases = Cases(
            clock, "ceilings", "What the device can do", "limit",
            (Column("value", "value", better="higher"),),
            "Multiply-adds count as two operations; a copy reads and writes. float32 is without "
            "TF32, as scores are refined.",
        )  # fmt: skip
        self.multiply_adds: float | None = None
        """A second, of a matrix product in 16 bits."""
        self.bandwidth: float | None = None
        """Bytes a second."""

    def table(self) -> Table:
        """Measure the ceilings."""
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            name = str(dtype).removeprefix("torch.")
            rate = self._cases.measure(
                f"matrix product, {name}, TFLOP a second", partial(self._product, dtype)
            )
            if rate is not None and dtype == NARROW:
                value = rate["value"]
                assert isinstance(value, Figure)
                self.multiply_adds = value.value * 1e12 / 2
        rate = self._cases.measure("copy on the device, GB a second", self._copy)
        if rate is not None:
            value = rate["value"]
            assert isinstance(value, Figure)
            self.bandwidth = value.value * 1e9
        for pinned in (False, True):
            name = f"copy from {'pinned' if pinned else 'pageable'} host memory, GB a second"
            self._cases.measure(name, partial(self._host_copy, pinned))
        return self._cases.table()

    def share(self, multiply_adds: float, seconds: float) -> float | None:
        """Return how much of the device's 16-bit products some work reaches, in per cent."""
        if self.multiply_adds is None:
            return None
        return 100 * multiply_adds / self.multiply_adds / seconds

    def _product(self, dtype: torch.dtype) -> Cells:
        size = self._subject.sizes.gemm
        left = torch.randn(size, size, device=self._subject.device).to(dtype)
        out = torch.empty_like(left)
        samples = self._timer.seconds(lambda: torch.mm(left, left, out=out), 1.0)
        seconds = median(samples)
        return {"value": Figure(2 * size**3 / seconds.value / 1e12, noise=seconds.noise)}

    def _copy(self) -> Cells:
        source = torch.zeros(
            self._subject.sizes.copied, dtype=torch.uint8, device=self._subject.device
        )
        target = torch.empty_like(source)
        seconds = median(self._timer.seconds(lambda: target.copy_(source), 1.0))
        return {"value": Figure(2 * source.numel() / seconds.value / 1e9, noise=seconds.noise)}

    def _host_copy(self, pinned: bool) -> Cells:
        on_gpu = self._subject.device.type == "cuda"
        size = max(1, self._subject.sizes.copied // 4)
        source = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned and on_gpu)
        target = torch.empty_like(source, device=self._subject.device, pin_memory=False)
        seconds = median(
            self._timer.seconds(lambda: target.copy_(source, non_blocking=pinned), 0.5)
        )
        return {"value": Figure(size / seconds.value / 1e9, noise=seconds.noise)}


def encoding_table(
    subject: Subject, clock: Clock, timer: DeviceTimer, *, compiled: bool = False
) -> Table:
    """Measure the image branch on tensors that are on the device.

    Args:
        subject: its model, sizes and device.
        clock: of the run.
        timer: of the device.
        compiled: by torch's compiler alone, which takes its time: the largest batch in 16 bits.
    """
    # A branch shares its layers with the model, which is exported from the host's memory.
    model = deepcopy(subject.model)
    cases = Cases(
        clock, "encode-compiled" if compiled else "encode",
        f"Photos encoded, {subject.encoder} at 224 pixels, tensors in, tensors out", "form",
        (
            Column("ms", "ms a batch", better="lower", digits=2),
            Column("rate", "photos a second", better="higher", digits=0),
            Column("error", "largest difference"),
        ),
        "The image branch, global vectors and tokens. Differences are to eager float32, of global "
        "vectors over their spread. A CUDA graph is what the runtime `torch` replays.",
    )  # fmt: skip
    size = subject.model.image_input.size
    largest = max(subject.sizes.batches)
    photos = torch.randint(0, 256, (largest, size, size, 3), dtype=torch.uint8).to(subject.device)
    expected: dict[int, Tensor] = {}
    for dtype in (torch.float32, NARROW):
        _, branch = next(iter(branches(model, dtype)))
        branch = branch.to(subject.device)
        if dtype == NARROW:
            branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        else:
            for batch in subject.sizes.batches:
                expected[batch] = _inference(partial(branch, photos[:batch]))()[0]  # type: ignore[index]
            if compiled:
                continue
        name = "float32" if dtype == torch.float32 else "fp16, channels last"
        forms: dict[str, Callable[[Tensor], object]] = {f"{name}, eager": branch}
        if compiled:
            forms = {f"{name}, torch.compile": torch.compile(branch, dynamic=False)}
        elif subject.device.type == "cuda":
            forms[f"{name}, CUDA graph"] = CapturedCalls(branch, subject.device)
        for batch in (largest,) if compiled else subject.sizes.batches:
            for form, run in forms.items():

                def case(run: Callable[[Tensor], object] = run, batch: int = batch) -> Cells:
                    task = _inference(lambda: run(photos[:batch]))
                    seconds = median(timer.seconds(task, clock.left() / 8))
                    vectors = task()[0]  # type: ignore[index]
                    exact = expected[batch]
                    error = float((vectors - exact).abs().max() / exact.std().clamp(min=1e-9))
                    return {
                        "ms": Figure(1e3 * seconds.value, noise=seconds.noise),
                        "rate": batch / seconds.value,
                        "error": error,
                    }

                cases.measure(f"{form}, batch {batch}", case)
    return cases.table()


class PairForms:
    """S_local of pairs in every form: photos of R regions with recipes of one length.

    Args:
        subject: its sizes and device.
        clock: of the run.
        timer: of the device.
        ceilings: measured.
    """

    def __init__(
        self, subject: Subject, clock: Clock, timer: DeviceTimer, ceilings: Ceilings
    ) -> None:
        self._subject, self._clock, self._timer = subject, clock, timer
        self._ceilings = ceilings
        sizes = subject.sizes
        torch.manual_seed(0)
        fusion = CrossFusion(sizes.width, sizes.heads).requires_grad_(False)
        self._folded = fusion.fold().to(subject.device)
        self._half = self._folded.to(dtype=NARROW)
        self._kernel = kernel_weights(self._folded, NARROW)
        self._fusion = fusion.to(subject.device)

    def table(self, *, compiled: bool = False) -> Table:
        """Measure all forms, or the compiler's alone."""
        cases = Cases(
            self._clock, "pairs-compiled" if compiled else "pairs",
            f"Pair scores, D = {self._subject.sizes.width}, R = {REGIONS}", "form",
            (
                Column("ms", "ms", better="lower", digits=3),
                Column("rate", "M pairs a second", better="higher", digits=3),
                Column("limit", "% of products", digits=1),
                Column("error", "largest error", digits=7),
            ),
            "Scores alone, of encodings on the device. % of products: multiply-adds of the folded "
            "form at tables, at the device's 16-bit rate, over the time. Errors are to eager "
            "float32 at tables.",
        )  # fmt: skip
        for length in LENGTHS:
            for photos, recipes in self._subject.sizes.blocks:
                block = partial(self._block, cases, photos, recipes, length, compiled=compiled)
                cases.attempt(f"{photos} x {recipes}, {length} ingredients", block)
        return cases.table()

    def exhaustive(self) -> Table:
        """Measure whole blocks, and how long 10,000 photos with 10,000 recipes take so."""
        cases = Cases(
            self._clock, "exhaustive", "Every photo with every recipe", "form",
            (
                Column("rate", "M pairs a second", better="higher", digits=3),
                Column("seconds", "10k x 10k, s", better="lower"),
                Column("limit", "% of products"),
            ),
            "Blocks as `hficma eval` scores them, tables made for each; the seconds are of as many "
            "blocks, not measured whole.",
        )  # fmt: skip
        photos, recipes = self._subject.sizes.exhaustive
        for length in LENGTHS:

            def case(length: int = length) -> Cells:
                image, recipe, *_ = self._items(photos, recipes, length)
                task = self._fused(image, recipe, tables=False, graph=False)
                seconds = median(self._timer.seconds(task, self._clock.left() / 2))
                pairs = photos * recipes
                return {
                    "rate": Figure(1e-6 * pairs / seconds.value, noise=seconds.noise),
                    "seconds": 1e8 * seconds.value / pairs,
                    "limit": self._share(length, pairs, seconds.value, photos),
                }

            cases.measure(f"fused, {photos} x {recipes}, {length} ingredients", case)
        return cases.table()

    def _block(
        self, cases: Cases, photos: int, recipes: int, length: int, *, compiled: bool
    ) -> None:
        """Measure the forms of one shape."""
        shape = f"{photos} x {recipes}, {length} ingredients"
        image, recipe, image_tokens, recipe_tokens, lengths = self._items(photos, recipes, length)
        half = image.to(NARROW), recipe.to(NARROW)
        exact = _inference(lambda: pair_block(_groups(image), _groups(recipe), self._folded))
        expected = exact()
        assert isinstance(expected, Tensor)
        forms: dict[str, Callable[[], Callable[[], object]]] = {
            "published graph, float32": lambda: (
                lambda: published_scores(
                    self._fusion, image_tokens, recipe_tokens, lengths, PUBLISHED_BLOCK
                )
            ),
            "eager, float32": lambda: exact,
            "eager, fp16": lambda: (
                lambda: pair_block(_groups(half[0]), _groups(half[1]), self._half)
            ),
            "fused, fp16, tables": lambda: self._fused(image, recipe, tables=True, graph=False),
            "fused, fp16, projections": lambda: self._fused(
                image, recipe, tables=False, graph=False
            ),
            "fused, fp16, tables, CUDA graph": lambda: self._fused(
                image, recipe, tables=True, graph=True
            ),
        }
        if compiled:
            forms = {"torch.compile, fp16": lambda: _compiled_pairs(half, self._half)}
        elif self._subject.device.type != "cuda":
            del forms["fused, fp16, tables, CUDA graph"]
        if photos * recipes > 10_000:
            forms.pop("published graph, float32", None)
        for form, make in forms.items():

            def case(make: Callable[[], Callable[[], object]] = make) -> Cells:
                task = _inference(make())
                scores = task()
                assert isinstance(scores, Tensor)
                error = float((scores.reshape(photos, recipes) - expected[0]).abs().max())
                seconds = median(self._timer.seconds(task, self._clock.left() / 16))
                pairs = photos * recipes
                return {
                    "ms": Figure(1e3 * seconds.value, noise=seconds.noise),
                    "rate": 1e-6 * pairs / seconds.value,
                    "limit": self._share(length, pairs, seconds.value, photos),
                    "error": error,
                }

            cases.measure(f"{shape}: {form}", case)

    def _share(self, length: int, pairs: int, seconds: float, photos: int) -> Figure | None:
        sizes = self._subject.sizes
        each = pair_multiply_adds(
            "tables", width=sizes.width, heads=sizes.heads, tokens=length, photos=photos
        )
        share = self._ceilings.share(pairs * each, seconds)
        return None if share is None else Figure(share)

    @torch.inference_mode()
    def _items(
        self, photos: int, recipes: int, length: int
    ) -> tuple[PaddedEncodings, PaddedEncodings, Tensor, Tensor, Tensor]:
        """Return random photos and recipes at tables, their tokens, and the recipes' lengths."""
        width, device = self._subject.sizes.width, self._subject.device
        image_tokens = unit_rows(torch.randn(photos, REGIONS, width, device=device).relu())
        recipe_tokens = unit_rows(torch.randn(recipes, length, width, device=device).relu())
        regions = torch.full((photos,), REGIONS, device=device)
        lengths = torch.full((recipes,), length, device=device)
        image = project(image_tokens, regions, self._folded.image)
        recipe = project(recipe_tokens, lengths, self._folded.recipe)
        return (
            tabulate(image, self._folded.image),
            tabulate(recipe, self._folded.recipe),
            image_tokens,
            recipe_tokens,
            lengths,
        )

    @torch.inference_mode()
    def _fused(
        self, image: PaddedEncodings, recipe: PaddedEncodings, *, tables: bool, graph: bool
    ) -> Callable[[], Tensor]:
        """Return what scores a block by the kernels; on torch's CPU device by their reference."""
        heads = self._subject.sizes.heads
        photos = _packed(image, heads, tables=True)
        recipes = _packed(recipe, heads, tables=tables)
        device = self._subject.device
        columns = torch.arange(len(image.lengths), device=device)[None]
        rows = torch.arange(len(recipe.lengths), device=device)[None]

        def score(photo_items: Tensor, recipe_items: Tensor) -> tuple[Tensor]:
            return (score_groups(photos, recipes, photo_items, recipe_items, self._kernel),)

        run: Callable[..., object] = CapturedCalls(score, device) if graph else score
        return lambda: run(columns, rows)[0]  # type: ignore[index]


def _compiled_pairs(
    half: tuple[PaddedEncodings, PaddedEncodings], weights: FoldedWeights
) -> Callable[[], object]:
    """Return `pair_block` by torch's compiler."""
    compiled = torch.compile(pair_block)
    image, recipe = _groups(half[0]), _groups(half[1])
    return lambda: compiled(image, recipe, weights)


def _packed(encodings: PaddedEncodings, heads: int, *, tables: bool) -> PackedItems:
    """Return items as the kernels read them, all of one length."""
    packed = pack_items(encodings, NARROW, heads=heads, uniform=True)
    return packed if tables else replace(packed, table=None)


def _groups(encodings: PaddedEncodings) -> PaddedEncodings:
    """Return all items as one group."""
    return encodings.grouped((1, len(encodings.lengths)))


def _inference(task: Callable[[], object]) -> Callable[[], object]:
    """Return a task that keeps nothing for gradients, float32 in it being whole."""

    def run() -> object:
        with torch.inference_mode(), full_float32():
            return task()

    return run
