"""Kernels in C that score pairs on the processors, read by `ctypes`; optional (`library.load`).

build       compiles the library: where the package is built, or by hand in a checkout
library     finds it, and the functions for this processor
pair_kernel scores a query with items where they lie, in tiles
"""
