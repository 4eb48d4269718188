"""Experiments with access control under attack: floods, slow clients, renewals, guessing."""
