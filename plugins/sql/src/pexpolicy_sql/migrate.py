"""Migrations of the tables of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from pexpolicy import SettingsError
from pexpolicy_sql.tables import METADATA, ROOM_LIST, VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection


def version(connection: Connection) -> str:
    """Return the last migration of a database; empty for none."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision() or ""


def upgrade(connection: Connection) -> None:
    """Run all migrations that are missing; raises ``SettingsError`` for a newer database."""
    config = Config()
    config.set_main_option("script_location", "pexpolicy_sql:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        text = "the database has tables of a newer pexpolicy-sql: upgrade the package"
        raise SettingsError(text) from None


def allow_reading(connection: Connection, user: str) -> None:
    """Let a user of PostgreSQL read the tables."""
    quote = connection.dialect.identifier_preparer.quote
    tables = ", ".join(map(quote, (*METADATA.tables, ROOM_LIST)))
    connection.exec_driver_sql(f"GRANT SELECT ON {tables} TO {quote(user)}")
