"""Command ``pexpolicy audit ship``, and the database for the other commands."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

from pexpolicy.audit.database import NO_DRIVER, PLACE, Database, DatabaseUnavailable
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.ship import Shipper
from pexpolicy.cli.common import EX_CONFIG, config_option, examples, fail, refuse
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

from_database_option = click.option(
    "--from-database",
    is_flag=True,
    help="Read the lines of all servers in the database of [audit.ship] instead.",
)


@contextmanager
def opened(config: Path) -> Iterator[tuple[Database, Settings]]:
    """Yield the database of a configuration, with its settings; exit with 78 without one, with 2
    if it fails. Errors in other tables than ``[audit]`` do not matter.
    """
    try:
        settings = load(config)
    except ConfigError as error:
        if error.salvaged is None or "audit" in error.salvaged.wrong:
            fail(error)
        settings = error.salvaged
    if settings.audit.ship is None:
        refuse(f"{config}: [audit.ship] is missing: it names the database, as url", EX_CONFIG)
    if find_spec("asyncpg") is None:
        refuse(NO_DRIVER, EX_CONFIG)
    try:
        with Database(settings) as database:
            yield database, settings
    except DatabaseUnavailable as error:
        refuse(str(error))


def lines_between(
    config: Path, since: datetime | None, until: datetime | None
) -> Iterator[RawLine]:
    """Yield the lines of a period by time."""
    where = "WHERE time >= $1 AND time < $2 ORDER BY time, boot_id, seq"
    with opened(config) as (database, _):
        yield from database.lines(where, since or FIRST, until or LAST)


def last_lines(config: Path, number: int, *, follow: bool) -> Iterator[RawLine]:
    """Yield the last lines by time, and then those that arrive."""
    with opened(config) as (database, _):
        known = {row["boot_id"]: row["seq"] for row in database.chains()} if follow else {}
        order = "ORDER BY time DESC, boot_id DESC, seq DESC LIMIT $1"
        yield from reversed([*database.lines(order, number)])
        while follow:
            for row in (rows := database.newer(known)):
                known[row["boot_id"]] = row["seq"]
                yield RawLine(PLACE, 0, row["line"].encode())
            if not rows:
                time.sleep(1.0)


@click.command(epilog=examples("pexpolicy audit ship --config /etc/pexpolicy/config.toml"))
@config_option
def ship(config: Path) -> None:
    """Copy the lines of the audit to the database of [audit.ship], until the process is ended.

    It is a process of its own, next to the server: neither waits for the other. Lines that wait
    for the database are on the disk, and no line is stored twice.
    """
    # Nothing is lost whenever it ends. As the first process of a container it needs a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with suppress(KeyboardInterrupt), opened(config) as (database, settings):
        table = settings.audit
        assert table.ship is not None
        assert table.path is not None
        path, instance = settings.resolve(table.path), settings.instance
        click.echo(f"copying {path} to the database of [audit.ship] as {instance}", err=True)
        shipper = Shipper(database, path, instance, table.ship.keep_days)
        shipper.run(lambda text: click.echo(f"audit ship: {text}", err=True))
