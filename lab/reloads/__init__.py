"""Experiments with reloads, broken files and killed workers under load."""
