"""Metrics of all workers, status and health."""
