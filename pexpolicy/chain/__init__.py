"""The chain: the plugins of one hook, asked in order within the budget of the call."""
