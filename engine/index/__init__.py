"""Reads an index: shards, item encodings, records, vector indexes, filters. Writes nothing."""
