"""``pexpolicy conformance``; it imports what it needs when it runs, so other commands do not."""

from __future__ import annotations

import asyncio
import math
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import click

from pexpolicy.cli.common import examples
from pexpolicy.cli.http_client import ServerUrl, authorization, cacert_option, tls_context
from pexpolicy.text import is_utf8

if TYPE_CHECKING:
    from pexpolicy.conformance.report import Report

EX_FAILED = 1
EX_USAGE = 2
UNAUTHORIZED = "the server refuses access (401): user or password is wrong or missing"


def base_url(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return the URL of a policy profile: the part before ``/policy/v1``."""
    parts = urlsplit(value)
    if parts.username is not None:
        raise click.BadParameter("give the credentials with --user and --password-env")
    if parts.query or parts.fragment or "/policy/v1" in parts.path:
        raise click.BadParameter("write the URL of the policy profile: the part before /policy/v1")
    return value


def utf8(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return the text; other bytes than UTF-8 cannot be in a request."""
    if not is_utf8(value):
        raise click.BadParameter("this is not UTF-8 text; is the terminal set to UTF-8?")
    return value


def number(_: click.Context, __: click.Parameter, value: float) -> float:
    """Return the number; NaN, which no range excludes, is wrong usage."""
    if math.isnan(value):
        raise click.BadParameter("this is not a number")
    return value


@click.command(
    epilog=examples(
        "pexpolicy conformance http://127.0.0.1:8000",
        "pexpolicy conformance https://policy.example.com --user pexip --password-env PASSWORD",
        "pexpolicy conformance https://policy.example.com --cacert ca.pem --junit report.xml",
    )
)
@click.argument("url", type=ServerUrl(), callback=base_url)
@click.option("--user", help="User for HTTP Basic authentication.")
@click.option("--password", help="Its password; other users of this machine can see it.")
@click.option(
    "--password-env", metavar="NAME", help="Environment variable that holds the password."
)
@cacert_option
@click.option(
    "--alias",
    callback=utf8,
    default="meet.bob",
    show_default=True,
    help="The alias that is dialed.",
)
@click.option(
    "--caller",
    callback=utf8,
    default="alice@example.com",
    show_default=True,
    help="The alias that calls, registers, and whose avatar is requested.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 60, min_open=True),
    callback=number,
    default=5.0,
    show_default=True,
    help="Time limit for a reply in seconds; that of Infinity is 5.",
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
def conformance(  # noqa: PLR0913, PLR0917 - one argument for each option
    url: str,
    user: str | None,
    password: str | None,
    password_env: str | None,
    cacert: Path | None,
    alias: str,
    caller: str,
    timeout: float,
    json_path: str | None,
    junit: Path | None,
) -> None:
    """Send the requests of a Conferencing Node to the policy server at URL, and check each reply.

    URL is that of the policy profile: the part before /policy/v1. It may be any policy server; the
    requests look like those of real calls, searches and registrations.

    Exit code 0: the server keeps the contract. 1: it breaks the contract, or fails. 2: it cannot be
    reached or refuses access, or wrong usage.
    """
    from rich.console import Console  # noqa: PLC0415 - for this command only

    from pexpolicy.conformance import display  # noqa: PLC0415
    from pexpolicy.conformance.report import as_json, as_junit  # noqa: PLC0415
    from pexpolicy.conformance.runner import UnauthorizedError, UnreachableError  # noqa: PLC0415

    header = authorization(user, password, password_env)
    tls = tls_context(cacert) if url.startswith("https:") else None
    out = Console(stderr=json_path == "-", highlight=False)
    try:
        report = asyncio.run(_run(url, header, alias, caller, timeout, tls))
    except UnauthorizedError:
        _fail(f"{url}: {UNAUTHORIZED}")
    except UnreachableError as error:
        hint = "; name its CA with --cacert" if "not trusted" in str(error) else ""
        _fail(f"{url} cannot be reached: {error}{hint}")
    display.show(out, report)
    try:
        if json_path == "-":
            click.echo(as_json(report))
        elif json_path is not None:
            Path(json_path).write_text(as_json(report) + "\n", encoding="utf-8")
        if junit is not None:
            junit.write_text(as_junit(report), encoding="utf-8")
    except OSError as error:
        _fail(f"{error.filename} cannot be written: {error.strerror}")
    sys.exit(0 if report.passes else EX_FAILED)


def _fail(text: str) -> NoReturn:
    click.secho(text, fg="red", err=True)
    sys.exit(EX_USAGE)


async def _run(
    url: str,
    authorization: str | None,
    alias: str,
    caller: str,
    limit: float,
    tls: ssl.SSLContext | None,
) -> Report:
    from rich.console import Console  # noqa: PLC0415 - for this command only

    from pexpolicy.conformance.display import progress_bar  # noqa: PLC0415
    from pexpolicy.conformance.http_client import connected  # noqa: PLC0415
    from pexpolicy.conformance.report import Report  # noqa: PLC0415
    from pexpolicy.conformance.runner import ConformanceTest  # noqa: PLC0415

    report = Report(url)
    async with connected(url, authorization=authorization, limit=limit, tls=tls) as wire:
        test = ConformanceTest(wire, alias=alias, caller=caller)
        with progress_bar(Console(stderr=True), test.length) as bar:
            async for result in test.run():
                report.results.append(result)
                bar.advance(result)
    report.conclude()
    return report
