"""What a GPU does in a search, beside what it can do: `hficma bench gpu`."""
