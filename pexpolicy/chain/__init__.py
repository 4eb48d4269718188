"""Asking the plugins of one hook in order, within the budget of the call."""
