"""What must hold of every score, whatever the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hficma.model import HFICMA, Model, RecipeBatch, Scores, Tokens
from hficma.model.encoders.batches import concatenate_tokens
from hficma.model.encoders.image.features import mean_pooled
from hficma.model.similarity import tabulate
from tests.model.factories import make_model, published_model, random_recipes, random_regions

counts = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=6)


def scored(model: Model, photos: torch.Tensor, recipes: RecipeBatch) -> Scores:
    with torch.no_grad():
        return model.score(model.image_tokens(mean_pooled(photos)), model.recipe_tokens(recipes))


@pytest.mark.parametrize("kind", ["hf-icma", "adamine"])
@settings(max_examples=15, deadline=None)
@given(counts=counts, seed=st.integers(0, 1000), more=st.integers(1, 7))
def test_padding_never_changes_a_score(
    kind: str, counts: list[tuple[int, int]], seed: int, more: int
) -> None:
    """In the release it does: padded slots enter every mean."""
    model = make_model(kind).double()
    photos = random_regions(2, 192, seed)
    snug = random_recipes(counts, 8, seed)
    slots = (snug.ingredients.shape[1] + more, snug.sentences.shape[1] + 2 * more)
    loose = random_recipes(counts, 8, seed, slots=slots)
    torch.testing.assert_close(
        scored(model, photos, loose).total, scored(model, photos, snug).total, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("kind", ["hf-icma", "adamine"])
@settings(max_examples=15, deadline=None)
@given(counts=counts, seed=st.integers(0, 1000), random=st.randoms(use_true_random=False))
def test_order_and_company_never_change_a_score(
    kind: str, counts: list[tuple[int, int]], seed: int, random: object
) -> None:
    """A score that depended on its batch could not be cached, tiled or certified."""
    model = make_model(kind).double()
    photos = random_regions(2, 192, seed)
    recipes = random_recipes(counts, 8, seed)
    together = scored(model, photos, recipes).total
    order = list(range(len(counts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = scored(model, photos, recipes.select(order)).total
    torch.testing.assert_close(shuffled, together[:, order], atol=1e-12, rtol=0)
    alone = recipes.select(slice(1))
    torch.testing.assert_close(
        scored(model, photos[:1], alone).total, together[:1, :1], atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("kind", ["hf-icma", "adamine"])
@pytest.mark.parametrize("precision", ["float32", "bf16 autocast", "fp16"])
def test_the_smallest_and_the_emptiest_give_numbers(kind: str, precision: str) -> None:
    """NaN would rank anywhere: one ingredient, one sentence, black photos, dead activations."""
    model = make_model(kind, width=16, heads=4, sentence_dim=16, global_similarity="cosine")
    dtype = torch.float16 if precision == "fp16" else torch.float32
    photos = torch.cat([random_regions(1, 192, 0), torch.zeros(1, 49, 192)]).to(dtype)
    recipes = random_recipes([(1, 1), (3, 2), (20, 20)], 8, 1)
    silent = recipes.sentences.clone()
    silent[0] = 0
    recipes = recipes._replace(sentences=silent.to(dtype))
    model = copy.deepcopy(model).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16 autocast"):
        result = scored(model, photos, recipes)
    assert result.total.dtype == torch.float32
    assert result.total.isfinite().all()
    if result.local is not None:
        exact = scored(model.float(), photos.float(), recipes._replace(sentences=silent.float()))
        torch.testing.assert_close(result.local, exact.local, atol=2e-2, rtol=0)


def test_training_in_bf16_gives_every_parameter_a_finite_gradient() -> None:
    """An in-place product of mixed precisions would fail or drop a gradient silently."""
    model = make_model().train()
    recipes = random_recipes([(2, 2), (5, 3)], 8, 1)
    recipes = recipes._replace(sentences=recipes.sentences.float())
    with torch.autocast("cpu", torch.bfloat16):
        image = model.image_tokens(mean_pooled(random_regions(2, 192, 0).float()))
        total = model.score(image, model.recipe_tokens(recipes)).total
    total.sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(("trunk", "sentence_encoder")):
            continue  # not on this path: regions and sentence vectors were given
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_gradients_do_not_depend_on_the_tile() -> None:
    """Tiles bound the memory of a training step; they must not change it."""
    model = published_model(8, 2, 4)
    photos, recipes = random_regions(3, 16, 0), random_recipes([(4, 2), (1, 1), (9, 3)], 8, 1)
    gradients = []
    for tile in (None, 1, 2, 4, 100):
        model.zero_grad()
        image, recipe = model.image_tokens(mean_pooled(photos)), model.recipe_tokens(recipes)
        model.score(image, recipe, tile=tile).total.square().sum().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-12, rtol=1e-9)


def test_selected_items_are_padded_only_to_their_longest() -> None:
    """Ragged scoring rests on it: rows swapped here would score the wrong recipe."""
    model = published_model(8, 2, 4)
    recipes = random_recipes([(4, 2), (1, 1), (9, 3)], 8, 1)
    with torch.no_grad():
        encodings = model.project_recipe(model.recipe_tokens(recipes))
    encodings = tabulate(encodings, model.fold().recipe)
    chosen = encodings.select(torch.tensor([1, 0]))
    assert chosen.query.shape == (2, 4, 8)
    assert chosen.table is not None
    assert chosen.table.shape == (2, 2, 4, 8)
    assert encodings.table is not None
    torch.testing.assert_close(chosen.table[1], encodings.table[0, :, :4])
    torch.testing.assert_close(chosen.value[0, :1], encodings.value[1, :1])


def test_batches_of_other_lengths_are_joined_with_zeros_between() -> None:
    """Padding that is not zero, or cut from the wrong end, would be read as a token."""
    short = Tokens(torch.ones(1, 2), torch.ones(1, 1, 3), torch.tensor([1]))
    long = Tokens(torch.ones(1, 2), torch.full((1, 4, 3), 2.0), torch.tensor([2]))
    both = concatenate_tokens([short, long])
    assert both.tokens is not None
    assert both.tokens[..., 0].tolist() == [[1, 0], [2, 2]]
    assert both.lengths.tolist() == [1, 2]
    bare = [one._replace(tokens=None) for one in (short, long)]
    assert concatenate_tokens(bare).tokens is None


def test_recurrent_layers_equal_the_packed_ones() -> None:
    """The exportable form stands in for packed sequences; a wrong reversal reads padding."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    from hficma.model.encoders.recurrent import Bidirectional

    lengths = torch.tensor([5, 1, 3])
    values = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    for kind in (nn.GRU, nn.LSTM):
        ours = Bidirectional(kind, 4, 6)
        packed = kind(4, 6, batch_first=True, bidirectional=True)
        names = [name for name, _ in ours.ahead.named_parameters()]
        with torch.no_grad():
            for name in names:
                getattr(packed, name).copy_(getattr(ours.ahead, name))
                getattr(packed, f"{name}_reverse").copy_(getattr(ours.back, name))
            expected, _ = packed(
                pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
            )
            expected, _ = pad_packed_sequence(expected, batch_first=True)
            got = torch.cat(ours(values, lengths), dim=-1)
        valid = torch.arange(5) < lengths[:, None]
        torch.testing.assert_close(got[valid], expected[valid], atol=1e-6, rtol=0)


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=2, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
    seed=st.integers(0, 1000),
    tile=st.sampled_from([None, 1, 8, 100]),
)
def test_groups_scored_together_are_groups_scored_alone(
    counts: list[tuple[int, int]], cuts: set[int], seed: int, tile: int | None
) -> None:
    """Values and gradients: `Model` scores group by group, HF-ICMA several to a product."""
    pairs = len(counts)
    generator = torch.Generator().manual_seed(seed)
    ends = sorted({cut for cut in cuts if cut < pairs} | {pairs})
    order = torch.randperm(pairs, generator=generator)
    groups = [order[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    results = []
    for scored_by in (HFICMA, Model):
        model = make_model().double()
        image = model.image_tokens(mean_pooled(random_regions(pairs, 192, seed)))
        recipe = model.recipe_tokens(random_recipes(counts, 8, seed))
        scores = scored_by.grouped_local_scores(model, image, recipe, groups, tile=tile)
        assert [tuple(table.shape) for table in scores] == [(len(r), len(r)) for r in groups]
        sum((table.square().sum() * (k + 1)) for k, table in enumerate(scores)).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((torch.cat([table.reshape(-1) for table in scores]), gradients))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-12, rtol=0)
    assert results[0][1].keys() == results[1][1].keys()
    for name, gradient in results[1][1].items():
        torch.testing.assert_close(results[0][1][name], gradient, atol=1e-10, rtol=1e-8)
