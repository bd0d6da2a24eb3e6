"""Answer a folder of photos, as JSON lines; bad photos are named and the others go on.

python docs/examples/03_many_photos.py photos workspace/indexes/recipes
"""

import json
import sys
from pathlib import Path

from hficma import Engine
from hficma.engine import Failure


def main(folder: str, index: str) -> None:
    """Print one line of JSON a photo, in the order of their names."""
    photos = sorted(path for path in Path(folder).iterdir() if path.is_file())
    with Engine.open(index) as engine:
        # Photos are read and encoded in batches, so this is faster than a loop over `search`.
        for photo, answer in zip(photos, engine.search_many(photos, k=1), strict=True):
            if isinstance(answer, Failure):
                print(json.dumps({"photo": photo.name, "error": answer.error}))
            else:
                best = answer.hits[0]
                print(json.dumps({"photo": photo.name, "title": best.title, "id": best.id}))


if __name__ == "__main__":
    main(*sys.argv[1:])
