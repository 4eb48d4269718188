"""Sources of data for plugins: asked by key, or taken as a snapshot."""

from pexpolicy_sources.data_source import (
    Answer,
    DataSource,
    DataSourceSettings,
    Found,
    Lookup,
    QueryError,
    Row,
    Snapshot,
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
