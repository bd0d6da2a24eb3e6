"""What executes a compiled branch, a file each."""
