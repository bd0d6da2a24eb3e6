"""Makes runs: losses, samplers, the loop, curves, comparison, presets."""
