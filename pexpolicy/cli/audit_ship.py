"""Command ``pexpolicy audit ship``, and the lines of the database for the other commands."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

from pexpolicy.audit.database import PLACE, Database, DatabaseUnavailable
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.ship import Shipper
from pexpolicy.cli.common import EX_CONFIG, config_option, examples, fail, refuse
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings

FOLLOW_S = 1.0
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
RECENT_S = 600.0
"""Chains that were not heard of for longer have no new lines while others are followed."""

from_database_option = click.option(
    "--from-database",
    is_flag=True,
    help="Read the lines of all servers in the database of [audit.ship] instead.",
)


@contextmanager
def opened(config: Path) -> Iterator[Database]:
    """Yield the database of a configuration; exit with 78 without one, with 2 if it fails."""
    try:
        with Database(shipping(config)) as database:
            yield database
    except DatabaseUnavailable as error:
        refuse(str(error))


def shipping(config: Path) -> Settings:
    """Return the settings of a configuration with a database, or exit with 78.

    Errors in other tables do not matter: lines are copied although no server can start.
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
        refuse("asyncpg is missing: pip install 'pexpolicy-sources[postgresql]'", EX_CONFIG)
    return settings


def lines_between(
    config: Path, since: datetime | None, until: datetime | None
) -> Iterator[RawLine]:
    """Yield the lines of a period by time."""
    where = "WHERE time >= $1 AND time < $2 ORDER BY time, boot_id, seq"
    with opened(config) as database, database.snapshot():
        yield from database.lines(where, since or FIRST, until or LAST)


def last_lines(config: Path, number: int, *, follow: bool) -> Iterator[RawLine]:
    """Yield the last lines by time, and then those that arrive."""
    with opened(config) as database:
        with database.snapshot():
            known = database.stored()
            order = "ORDER BY time DESC, boot_id DESC, seq DESC LIMIT $1"
            last = list(database.lines(order, number))
        yield from reversed(last)
        since = datetime.now(UTC)
        while follow:
            rows = database.newer(known, since, RECENT_S)
            for row in rows:
                known[row["boot_id"]] = row["seq"]
                since = max(since, row["time"])
                yield RawLine(PLACE, 0, row["line"].encode())
            if not rows:
                time.sleep(FOLLOW_S)


@click.command(epilog=examples("pexpolicy audit ship --config /etc/pexpolicy/config.toml"))
@config_option
def ship(config: Path) -> None:
    """Copy the lines of the audit to the database of [audit.ship], until the process is ended.

    It is a process of its own, next to the server: neither waits for the other. Lines that wait
    for the database are on the disk, and no line is stored twice.
    """
    settings = shipping(config)
    table = settings.audit
    assert table.ship is not None
    assert table.path is not None
    # Nothing is lost whenever it ends. As the first process of a container it needs a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    path, instance = settings.resolve(table.path), table.instance or socket.gethostname()
    click.echo(f"copying {path} to the database of [audit.ship] as {instance}", err=True)
    with suppress(KeyboardInterrupt), Database(settings) as database:
        shipper = Shipper(database, path, instance, table.ship.keep_days)
        shipper.run(lambda text: click.echo(f"audit ship: {text}", err=True))
