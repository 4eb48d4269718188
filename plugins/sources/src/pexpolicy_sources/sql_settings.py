"""Settings of the driver ``sql``."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from yarl import URL

from pexpolicy import ConfigPath
from pexpolicy_sources.data_source import DataSourceSettings


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
