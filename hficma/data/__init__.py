"""Where training pairs come from: own files, the built-in sample, Recipe1M."""
