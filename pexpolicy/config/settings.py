"""Settings of a server, its tenants and environments, and errors of a configuration.

Those of plugins: ``plugin_settings.py``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from pydantic import ConfigDict, SecretStr

from pexpolicy.config.plugin_settings import PluginSettings
from pexpolicy.config.problems import Problem, SettingsError, dotted_key
from pexpolicy.config.schema import EndpointName, Table
from pexpolicy.config.schema.audit import MAX_INSTANCE, AuditTable, PrivacyTable
from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy.config.schema.plugins import (
    EndpointTable,
    EnvironmentTable,
    InfinityTable,
    PluginTable,
    SourceTable,
    TenantName,
    TenantTable,
)
from pexpolicy.config.schema.server import (
    AccessTable,
    AdminTable,
    ApiTable,
    AuthTable,
    BundleTable,
    EventSourceTable,
    EventsTable,
    FleetTable,
    LimitsTable,
    LogTable,
    ServerTable,
    SharedTable,
    TlsTable,
    TracingTable,
)
from pexpolicy.config.secrets import Credential
from pexpolicy.models.alias import Alias
from pexpolicy.models.subnets import Subnets, read_subnet
from pexpolicy.text import suggest

POLICY, MANIFEST = "policy.toml", "manifest.json"
"""The files of a bundle with the tables that decide, and with what it holds."""
PRESENT = "present"
"""The file that names the folder of the present bundle. No link: each build reads it once, so that
no policy is built from two bundles.
"""


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle holds; ``requires`` are the oldest versions of distributions that will do."""

    version: str
    sequence: int
    requires: dict[str, str]
    files: dict[str, str]
    """The SHA-256 of each file, by its path in the bundle."""


class Bundle(NamedTuple):
    """The bundle that a server has, in a folder that is named by the SHA-256 of its archive."""

    folder: Path
    manifest: Manifest

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that make it the present one, and its tables."""
        return self.folder.parent / PRESENT, self.folder / MANIFEST, self.folder / POLICY

    def __str__(self) -> str:
        return f"{self.manifest.version} (sequence {self.manifest.sequence})"


class ConfigError(Exception):
    """A configuration is invalid; ``problems`` holds every problem that was found.

    ``salvaged`` are its settings without the invalid keys, for finding further problems. ``files``
    are the files that were read for it, set by the caller that tracked them.
    """

    def __init__(
        self, path: Path, problems: Sequence[Problem], salvaged: Settings | None = None
    ) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.path = path
        self.salvaged = salvaged
        self.files: tuple[Path, ...] = ()
        self.problems = tuple(problems)
        self.__cause__ = next((p.cause for p in problems if p.cause is not None), None)


class PluginStartupError(ConfigError):
    """A plugin could not open a resource, such as a database; a later attempt may succeed."""


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
        self.event_sources = {
            name: table.events or (name if name in sources else "default")
            for name, table in tables.items()
        }
        """The source of the events of each environment."""
        owners: dict[Any, str] = {}
        problems: list[Problem] = []
        for name, key in product(tables, ("networks", "credentials")):
            for number, written in enumerate(getattr(tables[name], key)):
                value = read_subnet(written) if key == "networks" else written
                if (other := owners.setdefault(value, name)) != name:
                    text = f"{written} is of environment {other} too"
                    problems.append(Problem(("environments", name, key, number), text))
        if problems:
            raise SettingsError(problems=problems)
        self._users = {user: name for user, name in owners.items() if isinstance(user, str)}
        self._networks = Subnets((one, owners[one]) for one in owners.keys() - self._users)

    def of(self, user: str | None, *addresses: str | None) -> str | None:
        """Return the environment of a user, else that of the first address that has one."""
        if user is not None and (found := self._users.get(user)) is not None:
            return found
        matches = filter(None, map(self._networks.find, addresses))
        return next((match.value for match in matches), None)


class Document(Table):
    """A configuration file."""

    server: ServerTable = ServerTable()
    auth: AuthTable | None = None
    access: AccessTable = AccessTable()
    tls: TlsTable | None = None
    limits: LimitsTable = LimitsTable()
    events: EventsTable | None = None
    admin: AdminTable = AdminTable()
    api: ApiTable | None = None
    console: ConsoleTable = ConsoleTable()
    tracing: TracingTable | None = None
    fleet: FleetTable = FleetTable()
    shared: SharedTable = SharedTable()
    bundle: BundleTable | None = None
    log: LogTable = LogTable()
    audit: AuditTable = AuditTable()
    privacy: PrivacyTable = PrivacyTable()
    infinity: InfinityTable = InfinityTable()
    endpoints: dict[EndpointName, EndpointTable] = {}
    plugin_dirs: list[str] = []
    """Directories with plugins: each `NAME.py`, or folder `NAME` with an `__init__.py`, is the
    plugin NAME and holds one class with hooks. NAME is letters, digits and `_`, a letter first.
    The key belongs at the top of the file, before any table.
    """
    sources: dict[str, SourceTable] = {}
    tenants: dict[TenantName, TenantTable] = {}
    environments: dict[TenantName, EnvironmentTable] = {}
    plugins: dict[str, PluginTable] = {}

    @property
    def event_tables(self) -> dict[str, EventSourceTable | EventsTable]:
        """The sources of events by name."""
        return self.events.sources if self.events is not None else {}


class Settings(Document):
    """The checked configuration, with secrets read and paths resolved."""

    model_config = ConfigDict(defer_build=True)  # it is never read from a file

    path: Path
    tables_digest: bytes = b""
    """The digest of the tables that decide."""
    content_digest: str = ""
    """The SHA-256 of the file."""
    is_empty: bool = False
    """True for an empty file."""
    credentials: tuple[Credential, ...] = ()
    privacy_key: SecretStr | None = None
    admin_token: SecretStr | None = None
    secret_files: tuple[Path, ...] = ()
    secrets: tuple[Path | str, ...] = ()
    """Files and environment variables with secrets that decide."""
    event_credentials: Mapping[str, Credential] = {}
    """By source; only a server needs them."""
    unread: tuple[Problem, ...] = ()
    """Secrets that only a server needs, and that cannot be read."""
    fleet_key: SecretStr | None = None
    fleet_token: SecretStr | None = None
    sign_key: SecretStr | None = None
    shared_password: SecretStr | None = None
    present: Bundle | None = None
    """The bundle with the tables that decide."""
    nodes: Environments = Environments({})
    """Whose calls are of which environment."""
    wrong: frozenset[str | int] = frozenset()
    """Tables with errors, if these settings were salvaged from an invalid file."""

    def resolve(self, path: str) -> Path:
        """Resolve a path relative to the configuration file."""
        return self.path.parent / path

    @property
    def policy_folder(self) -> Path:
        """The folder that the paths of plugins are relative to."""
        return self.path.parent if self.present is None else self.present.folder

    @property
    def plugin_folders(self) -> list[Path]:
        """The folders of ``plugin_dirs``."""
        return [self.policy_folder / one for one in self.plugin_dirs]

    def file_of(self, problems: Iterable[Problem]) -> Path:
        """Return the file that problems are in: that of the bundle if it holds all of them."""
        if self.present is not None and {*DECIDING}.issuperset(p.key[0] for p in problems if p.key):
            return self.present.folder / POLICY
        return self.path

    @property
    def bundles(self) -> Path:
        """The folder of the bundles."""
        named = self.bundle and self.bundle.folder
        return self.resolve(named) if named else self.state_dir / "bundles"

    @property
    def state_dir(self) -> Path:
        """The folder in which the server keeps what must outlive it."""
        return state_dir_of(self.path, self.server.state_dir)

    @property
    def instance(self) -> str:
        """The name of this server."""
        name = self.audit.instance or os.environ.get("PEXPOLICY_INSTANCE")
        return (name or socket.gethostname())[:MAX_INSTANCE]


def state_dir_of(config: Path, written: str | None) -> Path:
    """Return the state folder of a server, which its configuration may name."""
    # systemd names several, separated by colons.
    default = os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or "state"
    return config.parent / (written or default)


DECIDING = (
    *("plugins", "plugin_dirs", "endpoints", "infinity", "privacy", "sources", "tenants"),
    "environments",
)
"""Tables that decide: they are part of the policy hash. The rest is how one server runs."""

RESTART_KEYS: tuple[tuple[str, ...], ...] = (
    *(("server", key) for key in ("host", "port", "base_path", "workers")),
    *(("admin", key) for key in ("enabled", "host", "port", "tls")),
    *(("limits", key) for key in LimitsTable.model_fields),
    *(("audit", key) for key in AuditTable.model_fields),
    ("api",),
    ("shared",),
    ("tls",),
    ("tracing",),
)
"""Keys and tables that are read at the start only."""


def awaiting_restart(serving: Settings, wanted: Settings) -> tuple[str, ...]:
    """Return the changed keys that need a restart."""
    return tuple(
        dotted_key(key)
        for key in RESTART_KEYS
        if reduce(getattr, key, serving) != reduce(getattr, key, wanted)
    )
