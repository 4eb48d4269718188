"""Roles of the users of the console."""

from __future__ import annotations

from enum import IntEnum

from pexpolicy.config.schema.console import ConsoleRolesTable


class Role(IntEnum):
    """A role; each includes those before it."""

    VIEWER = 1
    """Sees the pages."""
    OPERATOR = 2
    """Tries requests and replays the audit as well."""
    ADMIN = 3
    """Reloads the configuration as well."""

    @property
    def label(self) -> str:
        """The name in the configuration."""
        return self.name.lower()


def role_of_groups(groups: list[str], roles: ConsoleRolesTable) -> Role | None:
    """Return the highest role of the groups of a user, compared exactly; ``None`` without any."""
    for role in reversed(Role):
        if not set(groups).isdisjoint(getattr(roles, role.label)):
            return role
    return None
