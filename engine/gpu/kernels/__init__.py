"""S_local of many pairs in three fused Triton kernels, each beside the plain torch that it equals.

    attention.py   softmax and gate agreement of every reader row with every source item
    fusion.py      shares times table, gate, bias, ReLU and the mean over an item's tokens
    matching.py    the matching MLP of both means
    pair_scores.py the three of them: G groups of B photos and M recipes

Nothing of L x D numbers a pair reaches memory. Imported only where a search runs on a GPU.
"""
