"""Write a web page that shows which part of the photo each ingredient looked at.

python docs/examples/06_explain.py photo.jpg workspace/indexes/recipes why.html
"""

import sys
from pathlib import Path

from hficma import Engine
from hficma.engine import write_page
from hficma.images import read_photo


def main(photo: str, index: str, page: str) -> None:
    """Search, and explain the five best answers on one page without scripts from elsewhere."""
    with Engine.open(index) as engine:
        answer = engine.search(image=photo, k=5)
        write_page(Path(page), engine.bundle, read_photo(photo), answer)
    print(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
