"""Reads an index: shards, item encodings, records, prefilters, filters. Writes nothing."""
