"""Plugin ``live``: who is in which service now, by Infinity's events."""

from pexpolicy_live.plugin import Live

__all__ = ["Live"]
