"""hficma: the recipe for a photo of a dish, and the photo for a recipe."""
