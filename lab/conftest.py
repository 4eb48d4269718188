"""Fixtures of experiments."""

from tests.support.script_runs import render

__all__ = ["render"]
