"""Plugins that answer anything at all, and the proof that no wrong reply leaves because of them."""
