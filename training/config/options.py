"""Options of a training run: one dataclass a section, a line under each field.

Names of sections and fields are a format: presets, overrides and the `options.json` of runs use
them. The section of the image encoder is called `trunk` there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hficma.model.config import ModelConfig

from ..losses.retrieval_losses import Hinge, Loss


@dataclass(frozen=True, kw_only=True)
class ImageEncoderOptions:
    """The image encoder (section `trunk`): its first weights, and when it is trained."""

    weights: str | None = None
    """File of weights in torchvision's names, `torchvision` to download them; none for random ones,
    which only `schedule=tuned` takes: others refuse them unless `random` is given."""
    schedule: Literal["frozen", "tuned", "alternate", "freeze-then-tune"] = "frozen"
    """`alternate` is HF-ICMA's: the image encoder and the rest take turns when validation stops
    gaining."""
    switch_epoch: int = 20
    """`freeze-then-tune` (AdaMine): epochs before the image encoder is trained too."""
    patience: int = 2
    """`alternate`: validations without a gain before the first turn; 4 before later ones."""
    lr: float | None = None
    """The image encoder's learning rate; none takes the optimizer's."""


@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    """How photos are shown in training, beside the crops that evaluation sees."""

    small: float = 0.0
    """Share of the epochs, the first ones, in which a trained image encoder sees photos at half
    their size, a quarter of the work; the others teach it the size that evaluation shows."""
    views: int = 0
    """Random views of a photo, cached beside the crops."""
    scale: float = 0.4
    """Least share of a photo's area in such a view."""
    window: float = 1.0
    """Least share of the grid of regions that a step shows: a rectangle drawn anew each time."""
    dropout: float = 0.0
    """Chance of each of a photo's channels to be 0, in all its regions alike."""
    per_recipe: int = 1
    """Photos of a recipe, the first ones, of which each epoch shows one, drawn at random; those of
    several are read in every epoch and not cached. Validation and evaluation see the first."""


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """How photos reach the model where they do not lie in the cache, ready to be shown."""

    workers: int | None = None
    """Processes that read and crop photos, for each process that trains; 0 reads them in that one;
    none takes the cores that no training process has, 16 at most."""
    cache_limit: int | None = None
    """Bytes that pixels, or features of a frozen image encoder, may take in the workspace's cache.
    Photos that would take more are read in every epoch; none takes half of the free disk, and the
    run keeps the number."""


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Word vectors, and how recipes are shown in training."""

    vectors: str | None = None
    """Directory of vectors, or recipes (JSONL) to train them on; none: words of the training
    pairs, and a GRU of sentences is trained with the rest."""
    tune_words: bool = True
    """Train the ingredients' word vectors with the rest."""
    tune_sentences: bool = False
    """Train the sentence encoder too; frozen ones (as published) run once per sentence."""
    tune_encoder: bool = False
    """Train the pretrained text encoder (`model.text.encoder`) too; a frozen one runs once per
    text."""
    drop_title: float = 0.0
    """Chance that a recipe is shown without its title."""
    drop_ingredients: float = 0.0
    """Chance that it is shown without its ingredients."""
    drop_instructions: float = 0.0
    """Chance that it is shown without its instructions."""
    drop_items: float = 0.0
    """Chance of each single ingredient and sentence to be left out."""
    dropout: float = 0.0
    """Chance of each number of a sentence vector to be 0."""
    others: str | None = None
    """Recipes without photos (JSONL, plain or `.gz`) for the two below."""
    pretrain_steps: int = 0
    """Steps in which the recipe head (`model.recipe_head`) learns from `others` first, one part of
    a recipe to find the rest of it; 0: it begins at random."""
    neighbours: float = 0.0
    """Chance that one of `others` of nearly the same title is shown in place of a pair's recipe."""


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """What is minimised: the sum of the parts that are not none, each with its weight."""

    on_score: Loss | None = field(default_factory=Hinge)
    """On S, the whole score."""
    on_global: Loss | None = None
    """On S_global alone: what makes a good prefilter."""
    on_local: Loss | None = None
    """On S_local alone."""
    classification: float = 0.0
    """w of the dish-class head: (1 - 2w) retrieval + w photo's + w recipe's cross-entropy."""
    group: int = 0
    """S and S_local are scored within groups of so many pairs of the batch, those that S_global
    confuses, so that their cost grows with the batch and not with its square; 0: the whole
    batch."""
    block: int = 0
    """Pairs are scored in blocks of so many photos and recipes, so that large batches fit; 0: all
    at once. Gradients are the same."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Which pairs make a batch."""

    name: Literal["shuffle", "class-pairs"] = "shuffle"
    """`class-pairs` (AdaMine): half the batch are two pairs each of the same dish class."""
    labelled: float = 0.5
    """Share of the batch that comes in pairs of a class."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """What moves the weights, and its learning rate."""

    name: Literal["adam", "muon"] = "adam"
    """`muon` orthogonalises the steps of the layers inside and leaves the others to Adam: from
    random weights it learns in a fraction of the epochs, each of which takes a little longer."""
    lr: float = 1e-4
    """Learning rate."""
    weight_decay: float = 0.0
    """Decoupled (AdamW); 0 is Adam."""
    clip: float = 0.0
    """Largest L2 norm of all gradients together; 0 does not clip."""
    warmup: float = 0.0
    """Epochs of linear warm-up."""
    decay: Literal["none", "cosine"] = "none"
    """`cosine` falls to 0 at the last epoch."""


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Epochs, batches, device, validation and checkpoints."""

    epochs: int = 60
    """Passes over the training pairs."""
    batch_size: int = 32
    """Pairs a batch, over all devices together; at most the training pairs there are."""
    seed: int = 1234
    """Everything random follows from it and the epoch."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:N`; `auto` takes a GPU where there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights stay fp32."""
    compile: bool = False
    """Compile the image encoder by torch.compile, which takes a minute or two at the start."""
    validate_every: int = 1
    """Epochs between validations; the first and the last epoch are always validated."""
    validation_pairs: int = 1000
    """At most so many validation pairs are scored, the same ones each time; 0: there is no
    validation, and those pairs are trained on too, as befits options chosen by folds."""
    save_minutes: float = 20.0
    """Minutes from a checkpoint to one within an epoch, where an epoch or the validations take
    longer; 0: none."""
    average: float = 0.0
    """Decay of a running mean of the weights, which is what is validated and kept; 0: none."""
    keep: Literal["best", "last"] = "best"
    """Which weights the run stands for: best by validation recall sum, or the last ones."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """All options of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    trunk: ImageEncoderOptions = field(default_factory=ImageEncoderOptions)
    """Its image encoder."""
    photos: PhotoOptions = field(default_factory=PhotoOptions)
    """Views of photos."""
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    """Reading of photos."""
    text: TextOptions = field(default_factory=TextOptions)
    """Words and views of recipes."""
    loss: LossOptions = field(default_factory=LossOptions)
    """Losses."""
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    """Batches."""
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    """Optimizer."""
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    """Epochs, validation, checkpoints."""
