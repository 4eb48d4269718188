"""Worker processes that share one port and reload together or not at all."""
