"""The tables of the configuration file, and what may stand in each."""

from pexpolicy.tables.admin import AdminTable, TracingTable
from pexpolicy.tables.audit import AuditTable, PrivacyTable
from pexpolicy.tables.base import EndpointName, Table
from pexpolicy.tables.document import Document
from pexpolicy.tables.infinity import EndpointTable, InfinityTable
from pexpolicy.tables.plugins import BreakerTable, PluginTable
from pexpolicy.tables.server import AuthTable, ServerTable

__all__ = [
    "AdminTable",
    "AuditTable",
    "AuthTable",
    "BreakerTable",
    "Document",
    "EndpointName",
    "EndpointTable",
    "InfinityTable",
    "PluginTable",
    "PrivacyTable",
    "ServerTable",
    "Table",
    "TracingTable",
]
