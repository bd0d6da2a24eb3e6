"""Words, ingredients, the vocabulary and word vectors."""
