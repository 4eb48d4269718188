"""The migrations, the oldest first; each names the one before."""
