"""Search with filters, and go on until the answer is proved.

python docs/examples/04_filter_and_prove.py photo.jpg workspace/indexes/recipes
"""

import sys

from hficma import Engine
from hficma.engine import Filter


def main(photo: str, index: str) -> None:
    """Print the best dishes without peanuts or shrimp, and the work that the proof took."""
    without = Filter(without=("peanut", "shrimp"))
    with Engine.open(index) as engine:
        quick = engine.search(image=photo, k=3, candidates=10, filter=without)
        proved = engine.search(image=photo, k=3, exact=True, filter=without)
    for hit in proved.hits:
        print(hit.rank, hit.title)
    print(f"quick:  {quick.scored} scored, {quick.certified} of 3 ranks proved")
    print(f"proved: {proved.scored} of {proved.searched} scored, all ranks proved")
    same = [hit.id for hit in quick.hits] == [hit.id for hit in proved.hits]
    print("the quick answer was", "the same" if same else "another")


if __name__ == "__main__":
    main(*sys.argv[1:])
