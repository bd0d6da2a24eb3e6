"""What a recipe is: reading, checking and writing one."""

from .recipe import (
    MAX_INGREDIENTS,
    MAX_LINE_BYTES,
    PARTITIONS,
    BadRecord,
    Recipe,
    read_jsonl,
    read_jsonl_lines,
    read_recipe,
)

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
