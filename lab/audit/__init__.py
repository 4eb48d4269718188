"""Experiments that try to make the audit lose a line."""
