"""The commands, related ones in one file. Each parses, calls and prints."""
