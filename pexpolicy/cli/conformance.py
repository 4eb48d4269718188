"""The command ``pexpolicy probe``; it imports what it needs when it runs, so others pay nothing."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from pexpolicy.cli.http_client import ServerUrl

if TYPE_CHECKING:
    from pexpolicy.conformance.report import Report

EX_VIOLATION = 1
EX_USAGE = 2


def base_url(_: click.Context, __: click.Parameter, value: str) -> str:
    """The URL as in a policy profile: what stands in front of ``/policy/v1``."""
    parts = urlsplit(value)
    if parts.username is not None:
        raise click.BadParameter("give the credentials with --user and --password-env")
    if parts.query or parts.fragment or "/policy/v1" in parts.path:
        raise click.BadParameter(
            "give the URL as in the policy profile: what stands before /policy/v1"
        )
    return value


def number(_: click.Context, __: click.Parameter, value: float) -> float:
    """The number, which must be one: no range keeps NaN out."""
    if math.isnan(value):
        raise click.BadParameter("this is no number")
    return value


@click.command()
@click.argument("url", type=ServerUrl(), callback=base_url)
@click.option("--user", help="User for HTTP Basic authentication.")
@click.option("--password", help="Its password; others can see it while the probe runs.")
@click.option(
    "--password-env", metavar="NAME", help="Environment variable that holds the password."
)
@click.option("--alias", default="meet.bob", show_default=True, help="The alias that is dialed.")
@click.option(
    "--caller",
    default="alice@example.com",
    show_default=True,
    help="The alias that calls, registers, and whose avatar is asked for.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 60, min_open=True),
    callback=number,
    default=5.0,
    show_default=True,
    help="Seconds that a reply may take; Infinity gives up at 5.",
)
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the report as JSON; - is standard output."
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report as JUnit XML.",
)
def probe(  # noqa: PLR0913, PLR0917 - one argument for each option
    url: str,
    user: str | None,
    password: str | None,
    password_env: str | None,
    alias: str,
    caller: str,
    timeout: float,
    json_path: str | None,
    junit: Path | None,
) -> None:
    """Play a Conferencing Node against the policy server at URL, and judge each reply.

    URL is the one of the policy profile: what stands in front of /policy/v1. Any policy server will
    do; to it the requests look like those of real calls, searches and registrations.

    Exit code 0: it keeps the contract. 1: it breaks it. 2: it cannot be reached, or wrong usage.
    """
    from rich.console import Console  # noqa: PLC0415 - for this command only

    from pexpolicy.conformance import display  # noqa: PLC0415
    from pexpolicy.conformance.report import as_json, as_junit  # noqa: PLC0415
    from pexpolicy.conformance.runner import UnreachableError  # noqa: PLC0415

    authorization = _authorization(user, password, password_env)
    out = Console(stderr=json_path == "-", highlight=False)
    try:
        report = asyncio.run(_play(url, authorization, alias, caller, timeout))
    except UnreachableError as error:
        click.secho(f"{url} cannot be reached: {error}", fg="red", err=True)
        sys.exit(EX_USAGE)
    display.show(out, report)
    try:
        if json_path == "-":
            click.echo(as_json(report))
        elif json_path is not None:
            Path(json_path).write_text(as_json(report) + "\n", encoding="utf-8")
        if junit is not None:
            junit.write_text(as_junit(report), encoding="utf-8")
    except OSError as error:
        click.secho(f"{error.filename} cannot be written: {error.strerror}", fg="red", err=True)
        sys.exit(EX_USAGE)
    sys.exit(0 if report.clean else EX_VIOLATION)


def _authorization(user: str | None, password: str | None, password_env: str | None) -> str | None:
    from pexpolicy.conformance.http_client import basic  # noqa: PLC0415 - aiohttp

    if password is not None and password_env is not None:
        raise click.UsageError("--password and --password-env exclude each other")
    if password_env is not None:
        password = os.environ.get(password_env)
        if password is None:
            raise click.UsageError(f"there is no environment variable {password_env}")
    if (user is None) != (password is None):
        raise click.UsageError("--user and a password belong together")
    if user is None or password is None:
        return None
    if ":" in user:
        raise click.UsageError("a user name cannot hold a colon")
    return basic(user, password)


async def _play(
    url: str, authorization: str | None, alias: str, caller: str, limit: float
) -> Report:
    from rich.console import Console  # noqa: PLC0415 - for this command only

    from pexpolicy.conformance.display import ticking  # noqa: PLC0415
    from pexpolicy.conformance.http_client import connected  # noqa: PLC0415
    from pexpolicy.conformance.report import Report  # noqa: PLC0415
    from pexpolicy.conformance.runner import Probe  # noqa: PLC0415

    report = Report(url)
    async with connected(url, authorization=authorization, limit=limit) as wire:
        probe = Probe(wire, alias=alias, caller=caller)
        with ticking(Console(stderr=True), probe.length) as ticker:
            async for played in probe.play():
                report.played.append(played)
                ticker.tick(played)
    report.conclude()
    return report
