"""Reloads of a running server: what triggers them, how they are made, and their results."""
