"""Plugin that decides by rules of the configuration."""

from pexpolicy_rules.plugin import Rules

__all__ = ["Rules"]
