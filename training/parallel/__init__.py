"""Training on several devices: one process a GPU, which learn from one batch together."""
