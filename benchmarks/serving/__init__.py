"""The service under load, beside the engine without it."""
