"""A whole configuration file, table by table."""

from __future__ import annotations

from pydantic import Field

from pexpolicy.tables.access import AccessTable, AuthTable, LimitsTable, TlsTable
from pexpolicy.tables.admin import AdminTable, TracingTable
from pexpolicy.tables.audit import AuditTable, PrivacyTable
from pexpolicy.tables.base import EndpointName, Table
from pexpolicy.tables.infinity import EndpointTable, InfinityTable
from pexpolicy.tables.plugins import PluginTable
from pexpolicy.tables.server import ServerTable


class Document(Table):
    """A whole configuration file."""

    server: ServerTable = ServerTable()
    auth: AuthTable | None = None
    access: AccessTable = AccessTable()
    tls: TlsTable | None = None
    limits: LimitsTable = LimitsTable()
    admin: AdminTable = AdminTable()
    tracing: TracingTable | None = None
    audit: AuditTable = AuditTable()
    privacy: PrivacyTable = PrivacyTable()
    infinity: InfinityTable = InfinityTable()
    endpoints: dict[EndpointName, EndpointTable] = Field(default_factory=dict)
    plugin_dirs: list[str] = Field(default_factory=list)
    plugins: dict[str, PluginTable] = Field(default_factory=dict)
