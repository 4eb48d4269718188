"""What several servers of one policy have in common: its hash, and where a server keeps state."""
