"""``pexpolicy sql``: make the tables of a database, and fill them from CSV files."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from pexpolicy import SettingsError
from pexpolicy.config.csv_tables import TableError
from pexpolicy.text import printable
from pexpolicy_sources.sql_settings import SqlSettings
from pexpolicy_sql.database import settings_of

EX_DATAERR = 65
"""Exit code for a file with rows that cannot be loaded (sysexits.h)."""
EX_TEMPFAIL = 75
"""Exit code for a database that fails (sysexits.h)."""
EX_CONFIG = 78
"""Exit code for an error in the configuration (sysexits.h)."""
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


class Target(NamedTuple):
    """The database to write to; ``reader`` is the user of the server, if that is another one."""

    settings: SqlSettings
    reader: str | None


@click.group(
    "sql", epilog="\b\nExamples:\n  pexpolicy sql upgrade\n  pexpolicy sql load rooms rooms.csv"
)
def sql() -> None:
    """Make tables for rooms, devices and people in a database, and fill them from CSV files."""


def _target(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a database to a command."""
    for option in (
        click.option("--password-file", type=_FILE, help="A file with the password of that user."),
        click.option("--user", help="The owner of the tables, if not the user of the source."),
        click.option("--source", help="NAME of [sources.NAME], if several are databases."),
        click.option(
            "--config",
            "-c",
            type=click.Path(path_type=Path, readable=False),
            default=Path("config.toml"),
            show_default=True,
            envvar="PEXPOLICY_CONFIG",
            help="The configuration file.",
        ),
    ):
        command = option(command)
    return command


@sql.command(
    epilog="\b\nExamples:\n  pexpolicy sql upgrade --user owner --password-file owner.password"
)
@_target
def upgrade(**options: Any) -> None:
    """Make the tables, or bring them up to date. Rows stay."""
    _run(_upgrade, options)


@sql.command(epilog="\b\nExamples:\n  pexpolicy sql load rooms rooms.csv --replace")
@click.argument("kind", type=click.Choice(("rooms", "devices", "people")))
@click.argument("file", type=_FILE)
@click.option("--replace", is_flag=True, help="Delete the rows that are not in FILE.")
@_target
def load(kind: str, file: Path, *, replace: bool, **options: Any) -> None:
    """Load rooms, devices or people from the CSV FILE; known rows are updated.

    The columns are those that the plugins rooms, registrations and directory read. A line with an
    error is left out; with --replace, nothing is changed then.
    """
    _run(lambda target: _load(target, kind, file, replace=replace), options)


async def _upgrade(target: Target) -> int:
    from pexpolicy_sql.database import writing  # noqa: PLC0415 - its packages are extras
    from pexpolicy_sql.migrate import allow_reading, upgrade, version  # noqa: PLC0415 - the same

    async with writing(target.settings) as connection:
        before = await connection.run_sync(version)
        await connection.run_sync(upgrade)
        after = await connection.run_sync(version)
        if target.reader is not None:
            await connection.run_sync(allow_reading, target.reader)
        await connection.commit()
    what = "the tables were up to date" if before == after else "upgraded the tables"
    click.echo(f"{what}, version {after}")
    return 0


async def _load(target: Target, kind: str, file: Path, *, replace: bool) -> int:
    from pexpolicy_sql.csv_rows import KINDS  # noqa: PLC0415 - its packages are extras
    from pexpolicy_sql.loader import load_file  # noqa: PLC0415 - the same

    def report(issue: object) -> None:
        click.secho(printable(issue), fg="red", err=True)

    done = await load_file(target.settings, KINDS[kind], file, report, replaces=replace)
    name = printable(file)
    if done.left_out and replace:
        click.echo(f"{name}: nothing was changed, because {done.left_out:,} lines have errors")
        return EX_DATAERR
    parts = [f"{done.loaded:,} loaded"]
    parts += [f"{done.deleted:,} deleted"] if replace else []
    parts += [f"{done.left_out:,} left out"] if done.left_out else []
    click.echo(f"{name}: {', '.join(parts)}")
    return EX_DATAERR if done.left_out else 0


def _run(run: Callable[[Target], Coroutine[Any, Any, int]], options: dict[str, Any]) -> NoReturn:
    """Run a command on the database of its options; exit with its code, or with a message."""
    try:
        import alembic  # noqa: F401, PLC0415 - the same
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - the package is an extra
    except ImportError as error:
        extras = "'pexpolicy-sql[postgresql]' or 'pexpolicy-sql[sqlite]'"
        _fail(f"needs the package {error.name}: pip install {extras}", EX_CONFIG)
    config, user = options["config"], options["user"]
    try:
        settings, reader = settings_of(config, options["source"], user, options["password_file"])
        code = asyncio.run(run(Target(settings, reader)))
    except SettingsError as error:
        _fail("\n".join(map(printable, error.problems)), EX_CONFIG)
    except TableError as error:
        _fail("\n".join(map(printable, str(error).splitlines())), EX_DATAERR)
    except DBAPIError as error:
        # Further lines may have values.
        first, _, _ = str(error.orig).partition("\n")
        _fail(f"the database: {printable(first)}", EX_TEMPFAIL)
    except OSError as error:
        _fail(f"the database: {error.strerror or error}", EX_TEMPFAIL)
    sys.exit(code)


def _fail(text: str, code: int) -> NoReturn:
    click.secho(text, fg="red", err=True)
    sys.exit(code)
