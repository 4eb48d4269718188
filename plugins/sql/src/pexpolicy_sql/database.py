"""The database of a configuration, opened to make and fill its tables."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from pexpolicy import Problem, SettingsError
from pexpolicy.config.csv_tables import TableError, read_text
from pexpolicy.config.toml_tables import validated
from pexpolicy.text import did_you_mean
from pexpolicy_sources.sql_engine import make_engine
from pexpolicy_sources.sql_settings import SqlSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


def settings_of(
    config: Path, name: str | None, user: str | None, password_file: Path | None
) -> tuple[SqlSettings, str | None]:
    """Return the settings of a source in a configuration file, by default its only database.

    ``user`` and ``password_file`` replace its own. The second value is its own user, if ``user``
    is another. Raises ``SettingsError``.
    """
    try:
        document = tomllib.loads(read_text(config))
    except TableError as error:
        raise SettingsError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{config} is not valid TOML: {error}") from None
    found = _databases(document.get("sources"))
    if name is None and len(found) == 1:
        (name,) = found
    if name is None or name not in found:
        what = f"no database [sources.{name}]" if name else "not one database only"
        guess = (name and did_you_mean(name, found)) or f"; there is: {', '.join(found) or 'none'}"
        raise SettingsError(f"{config} has {what}{guess}" + ("" if name else "; write --source"))
    table: dict[str, Any] = {**found[name], "timeout": 5.0}
    reader = None
    if user is not None:
        url = URL(_checked(table, name, config).url or "")
        if not url.user:
            raise SettingsError("a SQLite database has no users", key=("sources", name))
        reader = url.user if url.user != user else None
        table["url"] = str(url.with_user(user))
    if password_file is not None:
        table["password_file"] = str(password_file.absolute())
        table.pop("password_env", None)
    return _checked(table, name, config), reader


def _checked(table: Mapping[str, Any], name: str, config: Path) -> SqlSettings:
    settings, problems = validated(table, SqlSettings, {"root": config.parent})
    if settings is None:
        raise SettingsError(problems=[Problem(("sources", name, *p.key), p.text) for p in problems])
    return settings


def _databases(sources: Any) -> dict[str, Mapping[str, Any]]:
    """Return the tables with the driver sql, without it."""
    tables = sources.items() if isinstance(sources, dict) else ()
    return {
        name: {key: value for key, value in table.items() if key != "driver"}
        for name, table in tables
        if isinstance(table, dict) and table.get("driver") == "sql"
    }


@asynccontextmanager
async def writing(settings: SqlSettings) -> AsyncIterator[AsyncConnection]:
    """Yield a connection; what is not committed is rolled back."""
    engine = make_engine(settings, writable=True)()
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
