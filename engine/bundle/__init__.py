"""Opens and checks a bundle: a directory with the compiled graphs of one model."""
