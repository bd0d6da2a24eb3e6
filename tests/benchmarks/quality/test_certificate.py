"""The benchmark counts as proved only what is."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the benchmark scores by the torch model")

from hficma.benchmarks.quality.certificate import RANKS, _judge
from hficma.scores import ScoreWeights


def test_certified_answers_agree_with_scoring_everything() -> None:
    """A page that counted too much would sell a limit for a proof."""
    rng = np.random.default_rng(0)
    global_, local = rng.normal(size=(20, 300)), rng.uniform(0, 0.6, size=(20, 300))
    own = rng.integers(0, 300, 20)
    plain = ScoreWeights(0.5, 0.5)
    loose = _judge(global_, local, own, 100, plain=plain, bound=1.0, limit=1.0)
    tight = _judge(global_, local, own, 100, plain=plain, bound=0.6, limit=0.6)
    assert loose["certified"] <= tight["certified"] <= tight["agree"] == loose["agree"]
    few = _judge(global_, local, own, RANKS, plain=plain, bound=0.6, limit=0.6)
    assert few["certified"] <= few["agree"] < 100
    # A limit that cuts scores is judged by the answers without it.
    cut = _judge(global_, local, own, 299, plain=plain, bound=0.01, limit=0.01)
    assert cut["agree"] < 100
