"""What was handed in: looked at, read and repaired; nothing of it is run."""
