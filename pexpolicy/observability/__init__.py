"""Metrics of all workers, status, health and tracing."""
