"""What a cluster costs beside one process, and what a larger one would."""
