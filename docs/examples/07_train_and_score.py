"""Train a small model on the synthetic sample, and score pairs with it in torch.

python docs/examples/07_train_and_score.py my-run
"""

import sys
from pathlib import Path

from hficma import load_model
from hficma.training import evaluate, train

# Small enough for a minute; leave these out for a model that is worth something.
SMALL = [
    "model.width=32", "model.global_dim=32", "trainer.epochs=1",
    "trainer.validation_pairs=0", "trainer.keep=last",
    "trunk.weights=random", "trunk.schedule=frozen",  # the image encoder is not trained
]  # fmt: skip


def main(out: str) -> None:
    """Train, evaluate on test pairs, and open the model for research."""
    run = train("demo", SMALL, data="sample:100", run=Path(out))
    recall = evaluate(run, setup="all").total["image_to_recipe"]["R@10"][0]
    print(f"R@10 {recall:.1f} %")
    model = load_model(run)
    print(type(model).__name__, sum(weights.numel() for weights in model.parameters()), "weights")


if __name__ == "__main__":
    main(*sys.argv[1:])
