"""Plugin ``locations``: media location by the subnet of the participant."""

from pexpolicy_locations.plugin import Locations

__all__ = ["Locations"]
