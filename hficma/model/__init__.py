"""The network: vision, recipe, fusion, similarity; AdaMine beside HF-ICMA."""
