"""Rules from the configuration: what a request must be like, and what is decided then."""

from pexpolicy_rules.plugin import Rules

__all__ = ["Rules"]
