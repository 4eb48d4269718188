"""Tenants and environments: whose call it is, and which of several platforms it is of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pexpolicy.config.plugin_settings import PluginSettings
from pexpolicy.config.problems import Problem, SettingsError
from pexpolicy.config.schema.plugins import EnvironmentTable, TenantTable
from pexpolicy.models.alias import Alias
from pexpolicy.models.subnets import DuplicateSubnetError, Subnets
from pexpolicy.text import suggest


class Tenants:
    """The tenants of ``[tenants]``, and those that a plugin adds; ``tables`` has them by name.

    Raises ``SettingsError`` for a tag or an alias that two of them have. A look-up takes as long
    with 10,000 tenants as with ten.
    """

    def __init__(self, tables: Mapping[str, TenantTable] | None = None) -> None:
        self.tables = dict(tables or {})
        self._tags: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        # How many characters a pattern has before its first * and after its last one.
        shapes: dict[tuple[int, int], dict[tuple[str, str], list[tuple[list[str], str]]]] = {}
        problems: list[Problem] = []
        for name, table in self.tables.items():
            if (other := self._tags.setdefault(self.tag(name), name)) != name:
                text = f"{self.tag(name)!r} is the tag of tenant {other} too"
                problems.append(Problem(("tenants", name, "tag"), text))
            for number, written in enumerate(table.aliases):
                pattern = written if "*" in written else Alias(written)
                if (other := self._aliases.setdefault(pattern, name)) != name:
                    text = f"{written!r} is an alias of tenant {other} too"
                    problems.append(Problem(("tenants", name, "aliases", number), text))
                elif "*" in written:
                    start, *middle, end = written.split("*")
                    ends = shapes.setdefault((len(start), len(end)), {})
                    ends.setdefault((start, end), []).append((middle, name))
        if problems:
            raise SettingsError(problems=problems)
        # The longest first: a pattern for a part of a tenant's aliases precedes that for all.
        self._shapes = sorted(shapes.items(), key=lambda found: -sum(found[0]))

    @staticmethod
    def known(settings: PluginSettings, own: Mapping[str, TenantTable] | None = None) -> Tenants:
        """Return the tenants for the plugin with these settings.

        ``own`` are its tables by name, which add to a tenant of ``[tenants]``, or have ``tag`` or
        ``aliases`` themselves. Raises ``SettingsError``, with keys that begin with ``tenants``.
        """
        tables = dict(getattr(settings.of_config("tenants"), "tables", {}))
        problems = []
        for name, table in (own or {}).items():
            written = table.model_fields_set & {"tag", "aliases"}
            if name not in tables and not written:
                text = f"there is no table [tenants.{name}]: write one, or tag or aliases here"
                problems.append(Problem(("tenants", name), text + suggest(name, tables)))
            elif name in tables and written:
                text = f"[tenants.{name}] has the tag and the aliases: write them there only"
                problems.append(Problem(("tenants", name, min(written)), text))
            elif written:
                tables[name] = table
        if problems:
            raise SettingsError(problems=problems)
        return Tenants(tables)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def tag(self, name: str) -> str:
        """Return the tag of a tenant."""
        return self.tables[name].tag or f"t={name}"

    def of(self, alias: str, service_tag: str | None = None) -> str | None:
        """Return the name of the tenant that has the tag or, without one, the alias."""
        if service_tag:
            for tag in (service_tag, *service_tag.split("&")):
                if (found := self._tags.get(tag)) is not None:
                    return found
        text = alias if type(alias) is Alias else Alias(alias)
        if (found := self._aliases.get(text)) is not None and "*" not in text:
            return found
        size = len(text)
        for (start, end), ends in self._shapes:
            if start + end <= size:
                rest = text[start : size - end]
                for middle, name in ends.get((text[:start], text[size - end :]), ()):
                    if _has_in_order(rest, middle):
                        return name
        return None


def _has_in_order(text: str, parts: list[str]) -> bool:
    for part in filter(None, parts):
        _, found, text = text.partition(part)
        if not found:
            return False
    return True


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
                        problems.append(Problem(("environments", name, "networks", number), text))
            for number, user in enumerate(table.credentials):
                if (other := self._users.setdefault(user, name)) != name:
                    text = f"{user!r} is a user of environment {other} too"
                    problems.append(Problem(("environments", name, "credentials", number), text))
        if problems:
            raise SettingsError(problems=problems)

    def of(self, user: str | None, *addresses: str | None) -> str | None:
        """Return the environment of a user, else that of the first address that has one."""
        if user is not None and (found := self._users.get(user)) is not None:
            return found
        matches = filter(None, map(self.networks.find, addresses))
        return next((match.value for match in matches), None)
