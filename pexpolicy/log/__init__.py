"""The log on standard error: of the server, of plugins and of libraries."""
