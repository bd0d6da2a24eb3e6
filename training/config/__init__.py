"""Options of a training run: sections, presets, overrides."""
