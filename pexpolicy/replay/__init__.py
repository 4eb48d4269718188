"""Replay of recorded calls against a configuration: what it would answer, and what changes."""
