"""Write a web page that shows which part of the photo each ingredient looked at.

python docs/examples/06_explain.py photo.jpg workspace/indexes/recipes why.html
"""

import sys

from hficma import Engine
from hficma.engine import write_page


def main(photo: str, index: str, page: str) -> None:
    """Search, and explain the five best answers on one page without scripts from elsewhere."""
    with Engine.open(index) as engine:
        # What was computed of the photo is kept, so that the page need not compute it again.
        answer = engine.search(image=photo, k=5, keep_query=True)
        write_page(page, engine.bundle, answer)
    print(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
