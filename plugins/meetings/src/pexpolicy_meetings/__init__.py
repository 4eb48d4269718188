"""Meetings of booking systems: rooms that open and close by time, with PINs of their own."""

from pexpolicy_meetings.plugin import Meetings

__all__ = ["Meetings"]
