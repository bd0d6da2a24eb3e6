"""What a recipe is, and how one is read from what others write."""

from .jsonl import MAX_LINE_BYTES, BadRecord, read_jsonl, read_jsonl_lines, read_recipe
from .recipe import MAX_INGREDIENTS, PARTITIONS, Recipe

__all__ = [
    "MAX_INGREDIENTS",
    "MAX_LINE_BYTES",
    "PARTITIONS",
    "BadRecord",
    "Recipe",
    "read_jsonl",
    "read_jsonl_lines",
    "read_recipe",
]
