"""Find the recipes for a photo.

python docs/examples/01_search_a_photo.py photo.jpg workspace/indexes/recipes
"""

import sys

from hficma import Engine


def main(photo: str, index: str) -> None:
    """Print the best five recipes, how long each stage took, and what is proved."""
    with Engine.open(index) as engine:
        answer = engine.search(image=photo, k=5)
    for hit in answer.hits:
        print(f"{hit.rank}. {hit.title}  S = {hit.score:.3f}")
        print("   " + ", ".join(hit.ingredients[:4]))
    stages = ", ".join(f"{name} {ms:.1f} ms" for name, ms in answer.milliseconds.items())
    print(f"{stages}; {answer.proof}")


if __name__ == "__main__":
    main(*sys.argv[1:])
