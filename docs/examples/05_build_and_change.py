r"""Make an index, add to it, take something out, and look at it.

python docs/examples/05_build_and_change.py \
        workspace/bundles/demo recipes.jsonl more.jsonl new-index
"""

import sys
from pathlib import Path

from hficma.data import open_dataset
from hficma.engine import IndexWriter, build_index, index_info, verify_index


def main(bundle: str, recipes: str, more: str, out: str) -> None:
    """Build `out` from the first file, add the second, remove one recipe, merge, verify."""
    dataset = open_dataset(recipes)
    index = build_index(Path(bundle), dataset, Path(out), keep="tokens")
    with IndexWriter(index) as writer:
        added = writer.add(open_dataset(more))
        removed = writer.remove([dataset.recipe(0).id])
        writer.compact()
    print(f"{added} added, {removed} removed, {index_info(index)['items']} recipes now")
    problems = verify_index(index).problems
    print("whole" if not problems else "; ".join(problems))


if __name__ == "__main__":
    main(*sys.argv[1:])
