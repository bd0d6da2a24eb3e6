"""Training pairs: texts, photos, batches, and what is held out."""
