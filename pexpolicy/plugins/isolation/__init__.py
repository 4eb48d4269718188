"""Plugins in processes of their own: ``isolated`` is our end of one, ``worker`` is the other."""
