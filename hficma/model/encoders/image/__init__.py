"""Image encoders: a photo's pixels in, its features out, one file for each family of networks."""
