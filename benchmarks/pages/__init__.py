"""The docs' figures: what is told of each benchmark, and the pages that it is written into."""
