"""Readers of Recipe1M as its users share it: layers, LMDBs, pickles, Torch files.

Recipe1M (Salvador et al. 2017, http://im2recipe.csail.mit.edu) is a million recipes in layers of
JSON, with photos in folders. Those who train on it pass on derived files too, each with the text as
ids, vectors and class numbers: im2recipe-PyTorch's LMDBs (`*_lmdb` with `*_keys.pkl`), which
HF-ICMA uses, and AdaMine's (`data_lmdb/`). All of them number things from 1, as Lua does, and words
from 2.
"""
