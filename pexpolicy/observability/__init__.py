"""Counting what the server does, for all its workers together, and saying it to Prometheus."""
