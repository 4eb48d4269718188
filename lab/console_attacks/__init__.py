"""Attacks on the web console, counted."""
