"""Misbehaving plugins, each in a real server under load: `python -m lab.chaos`."""
