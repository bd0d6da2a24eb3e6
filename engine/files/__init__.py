"""Reads files of an index: bytes, checksums, ragged arrays, SQLite records."""
