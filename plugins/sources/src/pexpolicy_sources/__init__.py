"""Sources of data for plugins: asked by key, or taken as a snapshot."""

from pexpolicy_sources.data_source import DataSource, DataSourceSettings, Found, Lookup, Snapshot
from pexpolicy_sources.rows import (
    Answer,
    QueryError,
    Row,
    SourceError,
    SourceUnavailableError,
    Value,
)

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
