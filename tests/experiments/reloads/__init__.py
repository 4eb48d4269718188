"""Experiments with a server that changes while it answers: reloads, broken files, dead workers."""
