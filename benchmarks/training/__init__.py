"""How fast a model learns, what it waits for, and what a dataset of Recipe1M's size takes."""
