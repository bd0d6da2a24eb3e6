"""What the package brings to answer with at once: a cookbook, written for this project.

`cookbook.jsonl` holds 300 recipes of dishes that the world cooks, a JSON object a line as
`hficma.recipe.read_jsonl` takes it, under the project's licence. Dishes were chosen without looking
at photos, so that photos can be held against it.
"""
