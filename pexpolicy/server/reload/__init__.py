"""Configuration reloads: triggers, file watcher, control socket, result."""
