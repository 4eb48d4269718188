"""Schema of the configuration file."""

from __future__ import annotations

from pydantic import Field

from pexpolicy.config.schema.access import AccessTable, AuthTable, TlsTable
from pexpolicy.config.schema.audit import AuditTable, PrivacyTable
from pexpolicy.config.schema.base import EndpointName, Table
from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy.config.schema.plugins import EndpointTable, InfinityTable, PluginTable, SourceTable
from pexpolicy.config.schema.server import (
    AdminTable,
    LimitsTable,
    LogTable,
    ServerTable,
    TracingTable,
)


class Document(Table):
    """A configuration file."""

    server: ServerTable = ServerTable()
    auth: AuthTable | None = None
    access: AccessTable = AccessTable()
    tls: TlsTable | None = None
    limits: LimitsTable = LimitsTable()
    admin: AdminTable = AdminTable()
    console: ConsoleTable = ConsoleTable()
    tracing: TracingTable | None = None
    log: LogTable = LogTable()
    audit: AuditTable = AuditTable()
    privacy: PrivacyTable = PrivacyTable()
    infinity: InfinityTable = InfinityTable()
    endpoints: dict[EndpointName, EndpointTable] = Field(default_factory=dict)
    plugin_dirs: list[str] = Field(default_factory=list)
    """Directories with plugins: each `NAME.py`, or folder `NAME` with an `__init__.py`, is the
    plugin NAME and holds one class with hooks. NAME is letters, digits and `_`, a letter first.
    The key belongs at the top of the file, before any table.
    """
    sources: dict[str, SourceTable] = Field(default_factory=dict)
    plugins: dict[str, PluginTable] = Field(default_factory=dict)
