"""Plugin ``limits``: how many people, meetings and gateway calls each tenant has at once."""

from pexpolicy_limits.plugin import Limits
from pexpolicy_limits.settings import LimitsSettings

__all__ = ["Limits", "LimitsSettings"]
