"""Walks: the parts of the package that a call, a reload, a plugin and ``explain`` pass through."""
