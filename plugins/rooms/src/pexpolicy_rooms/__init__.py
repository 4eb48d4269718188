"""Rooms from the configuration: which service an alias leads to, told by a table."""

from pexpolicy_rooms.plugin import Rooms

__all__ = ["Rooms"]
