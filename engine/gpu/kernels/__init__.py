"""S_local of many pairs in fused Triton kernels, each beside the plain torch that it equals.

    packed_items.py  items without padding, and which of them are scored together
    tabulation.py    the sources' tables, where they are not stored
    attention.py     softmax and gate agreement of every reader row with every source item
    fusion.py        shares times table, gate, bias, ReLU and the mean over an item's tokens
    matching.py      the matching MLP of both means
    pair_scores.py   all of them: G groups of B photos and M recipes
    plain_scores.py  the same without a GPU, rounded where the kernels round
    tile_shapes.py   the tile of each kernel by shape
    launching.py     whether Triton works on a machine's GPU

Numbers of items and rows are arguments that no kernel is specialized for: one is compiled for each
tile and element type, and never again because there are 200 candidates instead of 256.

Nothing of L x D numbers a pair reaches memory. Imported only where a search runs on a GPU.
"""
