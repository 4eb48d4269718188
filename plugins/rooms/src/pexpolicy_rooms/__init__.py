"""Plugin ``rooms``: services by dialed alias, from a table in the configuration."""

from pexpolicy_rooms.plugin import Rooms

__all__ = ["Rooms"]
