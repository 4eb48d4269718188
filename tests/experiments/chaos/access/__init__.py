"""Experiments with the door: slow clients, renewed certificates, guesses. See ``__main__``."""
