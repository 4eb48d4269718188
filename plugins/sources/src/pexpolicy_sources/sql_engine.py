"""Driver ``sql``: its settings, and engines of SQLAlchemy for PostgreSQL and SQLite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from pydantic import Field, model_validator
from yarl import URL

from pexpolicy import ConfigPath
from pexpolicy.config.outgoing import secret, tls_context
from pexpolicy_sources.data_source import DataSourceSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class SqlSettings(DataSourceSettings):
    """``[sources.NAME]`` with ``driver = "sql"``. Times in seconds."""

    path: ConfigPath | None = None
    """A SQLite database, opened for reading only; either this or ``url``."""
    url: str | None = None
    """A PostgreSQL database: ``postgresql://USER@HOST:PORT/DATABASE``, or, for a socket,
    ``postgresql://USER@/DATABASE?host=FOLDER``.
    """
    password_env: str | None = None
    """Variable with the password for PostgreSQL."""
    password_file: ConfigPath | None = None
    """File with that password."""
    tls: bool = True
    """Verified TLS to PostgreSQL; never used for a socket."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    pool_size: int = Field(4, ge=1, le=100)
    """Connections that each process keeps."""

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if (self.path is None) == (self.url is None):
            msg = "write path (a SQLite database) or url (a PostgreSQL database)"
            raise ValueError(msg)
        if self.url is not None:
            postgresql_url(self.url)
        elif self.password_env or self.password_file or self.ca_file:
            msg = "password_env, password_file and ca_file are for PostgreSQL"
            raise ValueError(msg)
        return self


def postgresql_url(written: str) -> URL:
    """Parse the URL of a database; raises ``ValueError`` for credentials in it."""
    try:
        url = URL(written)
        _ = url.explicit_port
    except ValueError:
        url = URL()
    if url.scheme not in ("postgresql", "postgres") or not url.path.strip("/"):
        msg = "is not a URL of PostgreSQL: write postgresql://USER@HOST/DATABASE"
        if written.startswith("sqlite"):
            msg = 'write the file of a SQLite database in path, as in path = "rooms.db"'
        raise ValueError(msg)
    if url.raw_password is not None:
        msg = "credentials are never in this file: write password_env or password_file"
        raise ValueError(msg)
    if unknown := sorted(url.query.keys() - {"host"}) or (url.fragment and ["#"]):
        msg = f"{unknown[0]} is not known: only ?host=FOLDER, the folder of a socket, may follow"
        raise ValueError(msg)
    return url


DEADLINE = "deadline"
"""Key of ``Connection.info``: when SQLite ends the statement that runs, on the monotonic clock."""
INSTRUCTIONS = 10_000
"""Instructions of SQLite between two looks at the deadline; about 0.1 ms."""
FILE = "file"
"""Key of ``Connection.info``: which file SQLite has opened. One that an export has replaced since
would be read for ever.
"""
SERVER_EARLIER = 0.9
"""The part of the timeout after which PostgreSQL ends a statement by itself."""


def make_engine(settings: SqlSettings) -> Callable[[], AsyncEngine]:
    """Return what makes the engine; reads secrets and certificates, which are tracked.

    Raises ``SettingsError``, and ``ImportError`` where an extra is not installed.
    """
    if settings.url is None:
        return _sqlite(settings)
    return _postgresql(settings, settings.url)


def _postgresql(settings: SqlSettings, written: str) -> Callable[[], AsyncEngine]:
    import_module("asyncpg")
    from sqlalchemy import URL as DatabaseURL  # noqa: N811, PLC0415 - an extra

    url = postgresql_url(written)
    folder = url.query.get("host")
    arguments: dict[str, Any] = {
        "timeout": settings.timeout,
        "server_settings": {
            "application_name": "pexpolicy",
            "default_transaction_read_only": "on",
            "statement_timeout": str(round(settings.timeout * SERVER_EARLIER * 1000)),
        },
        "ssl": False if folder is not None or not settings.tls else tls_context(settings.ca_file),
    }
    address = DatabaseURL.create(
        "postgresql+asyncpg",
        username=url.user,
        password=secret("password", settings.password_env, settings.password_file),
        host=url.host,
        port=url.explicit_port,
        database=url.path.strip("/"),
        query={} if folder is None else {"host": folder},
    )

    return partial(_engine, address, arguments, settings)


def _engine(address: Any, arguments: Mapping[str, Any], settings: SqlSettings) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - an extra

    return create_async_engine(
        address,
        connect_args=dict(arguments),
        hide_parameters=True,
        max_overflow=0,
        pool_size=settings.pool_size,
        pool_timeout=settings.snapshot_timeout,
        pool_use_lifo=True,
    )


def _sqlite(settings: SqlSettings) -> Callable[[], AsyncEngine]:
    import_module("aiosqlite")
    from sqlalchemy import URL as DatabaseURL  # noqa: N811, PLC0415 - an extra
    from sqlalchemy import event  # noqa: PLC0415 - an extra
    from sqlalchemy.exc import DisconnectionError  # noqa: PLC0415 - an extra

    assert settings.path is not None
    path = settings.path
    address = DatabaseURL.create(
        "sqlite+aiosqlite",
        database=f"file:{quote(str(path.absolute()))}",
        query={"mode": "ro", "uri": "true"},
    )

    def connecting(_: Any, record: Any, *__: Any) -> None:
        record.info[FILE] = _identity(path)

    def checked_out(_: Any, record: Any, __: Any) -> None:
        if record.info[FILE] != _identity(path):
            raise DisconnectionError("another file has the name of the database now")

    def connected(connection: Any, record: Any) -> None:
        def is_late() -> bool:
            deadline: float = record.info.get(DEADLINE, math.inf)
            return time.monotonic() > deadline

        connection.run_async(lambda driver: driver.set_progress_handler(is_late, INSTRUCTIONS))

    def make() -> AsyncEngine:
        engine = _engine(address, {"timeout": settings.timeout}, settings)
        event.listen(engine.sync_engine, "connect", connected)
        event.listen(engine.sync_engine, "do_connect", connecting)
        event.listen(engine.sync_engine, "checkout", checked_out)
        return engine

    return make


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what another file of this name has not; ``None`` without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
