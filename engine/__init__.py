"""Makes indexes and answers: runtimes, encoding, prefilter, re-ranking, search."""
