"""Plugins in worker processes: the server's side, and the worker's in ``worker_main``."""
