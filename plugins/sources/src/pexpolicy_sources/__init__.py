"""Sources of data for plugins: asked by key, or taken as a snapshot."""

from pexpolicy_sources.data_source import DataSource, DataSourceSettings
from pexpolicy_sources.errors import QueryError, SourceError, SourceUnavailableError
from pexpolicy_sources.lookup import Found, Lookup
from pexpolicy_sources.rows import Answer, Row, Value
from pexpolicy_sources.snapshot import Snapshot

__all__ = [
    "Answer",
    "DataSource",
    "DataSourceSettings",
    "Found",
    "Lookup",
    "QueryError",
    "Row",
    "Snapshot",
    "SourceError",
    "SourceUnavailableError",
    "Value",
]
