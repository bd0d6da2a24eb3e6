"""The commands, related ones in one file. Each parses arguments, calls the library and prints."""
