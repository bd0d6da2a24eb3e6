"""Opens and checks a bundle: the compiled model that `hficma export` writes."""
