"""Search an index that lies in a GPU's memory."""
