"""Environments: which of several platforms a call is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pexpolicy.config.plugin_settings import SettingsError
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.plugins import EnvironmentTable
from pexpolicy.models.subnets import DuplicateSubnetError, Subnets


class Environments:
    """The environments of ``[environments]``. ``sources`` are those of events.

    Raises ``SettingsError`` for a network or a user that two of them have.
    """

    def __init__(
        self, tables: Mapping[str, EnvironmentTable], sources: Collection[str] = ()
    ) -> None:
        self.networks = Subnets[str]()
        self.event_sources = {
            name: table.events or (name if name in sources else "default")
            for name, table in tables.items()
        }
        """The source of the events of each environment."""
        self._users: dict[str, str] = {}
        problems: list[Problem] = []
        for name, table in tables.items():
            for number, network in enumerate(table.networks):
                try:
                    self.networks.add(network, name)
                except DuplicateSubnetError as error:
                    if (other := error.earlier.value) != name:
                        text = f"{network} is a network of environment {other} too"
                        problems.append(Problem((name, "networks", number), text))
            for number, user in enumerate(table.credentials):
                if (other := self._users.setdefault(user, name)) != name:
                    text = f"{user!r} is a user of environment {other} too"
                    problems.append(Problem((name, "credentials", number), text))
        if problems:
            raise SettingsError(problems=problems)

    def of(self, user: str | None, *addresses: str | None) -> str | None:
        """Return the environment of a user, else that of the first address that has one."""
        if user is not None and (found := self._users.get(user)) is not None:
            return found
        matches = filter(None, map(self.networks.find, addresses))
        return next((match.value for match in matches), None)
