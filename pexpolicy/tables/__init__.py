"""The tables of the configuration file, and what may stand in each."""

from pexpolicy.tables.access import (
    AccessTable,
    AuthTable,
    CredentialTable,
    LimitsTable,
    TlsTable,
)
from pexpolicy.tables.admin import AdminTable, TracingTable
from pexpolicy.tables.audit import AuditTable, PrivacyTable
from pexpolicy.tables.base import EndpointName, Table
from pexpolicy.tables.document import Document
from pexpolicy.tables.infinity import EndpointTable, InfinityTable
from pexpolicy.tables.plugins import BreakerTable, PluginTable
from pexpolicy.tables.server import ServerTable

__all__ = [
    "AccessTable",
    "AdminTable",
    "AuditTable",
    "AuthTable",
    "BreakerTable",
    "CredentialTable",
    "Document",
    "EndpointName",
    "EndpointTable",
    "InfinityTable",
    "LimitsTable",
    "PluginTable",
    "PrivacyTable",
    "ServerTable",
    "Table",
    "TlsTable",
    "TracingTable",
]
