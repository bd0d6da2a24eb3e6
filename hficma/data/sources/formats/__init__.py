"""Readers of recipe files, one module for each format.

Each makes `RawRecord`s of a file's bytes, whose fields `Recipe.parse` understands under any of
their usual names. `registry.py` finds the reader by the file's suffix; `RecipeFile` finds the
photos.
"""
