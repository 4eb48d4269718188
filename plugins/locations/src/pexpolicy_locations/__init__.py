"""Media locations by subnet: where a participant's media goes, told by its address."""

from pexpolicy_locations.plugin import Locations

__all__ = ["Locations"]
