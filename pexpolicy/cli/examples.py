"""Examples in the help of commands."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, which no terminal wraps."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
