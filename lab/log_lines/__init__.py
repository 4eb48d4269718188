"""A plugin that writes a million log lines under load, with readers of every kind."""
