"""The running server process: generations, lifecycle, shutdown."""
