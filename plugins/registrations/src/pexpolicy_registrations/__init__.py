"""Plugin ``registrations``: which devices may register, and with which credentials."""

from pexpolicy_registrations.plugin import Registrations

__all__ = ["Registrations"]
