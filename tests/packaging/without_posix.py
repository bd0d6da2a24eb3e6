"""Imported by the worker of a test, and by nothing else: its process then lacks `resource`."""

import sys

sys.modules["resource"] = None  # type: ignore[assignment]
