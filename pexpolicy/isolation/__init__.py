"""Child processes, and plugins in them: the server's side, and the worker's in ``worker_main``."""
