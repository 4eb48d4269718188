"""Settings of a server, and errors of a configuration. Those of plugins: ``plugin_settings.py``."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import msgspec
from pydantic import ConfigDict, SecretStr

from pexpolicy.config.credentials import Credential
from pexpolicy.config.problems import Problem, dotted_key
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
from pexpolicy.config.tenants import Environments

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
