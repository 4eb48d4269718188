"""Several processes that answer calls on one port, and reload together or not at all."""
