"""Image and text encoders of the model."""
