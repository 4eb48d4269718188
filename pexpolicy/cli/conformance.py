"""``pexpolicy conformance``; it imports what it needs when it runs, so other commands do not."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import click

from pexpolicy.cli.common import examples
from pexpolicy.cli.http_client import ServerUrl
from pexpolicy.text import is_utf8

if TYPE_CHECKING:
    from pexpolicy.conformance.report import Report

EX_FAILED = 1
EX_USAGE = 2
TIMEOUT_S = 5.0
"""Seconds that Infinity waits for a reply."""
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


@click.command(
    epilog=examples(
        "pexpolicy conformance http://127.0.0.1:8000",
        "pexpolicy conformance https://policy.example.com --user pexip --password-env PASSWORD",
        "pexpolicy conformance https://policy.example.com --junit report.xml",
    )
)
@click.argument("url", type=ServerUrl(), callback=base_url)
@click.option("--user", help="User for HTTP Basic authentication.")
@click.option(
    "--password-env", metavar="NAME", help="Environment variable that holds the password."
)
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
    "--json", "json_path", metavar="FILE", help="Write the report as JSON; - is standard output."
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report as JUnit XML.",
)
def conformance(
    url: str,
    user: str | None,
    password_env: str | None,
    alias: str,
    caller: str,
    json_path: str | None,
    junit: Path | None,
) -> None:
    """Send the requests of a Conferencing Node to the policy server at URL, and check each reply.

    URL is that of the policy profile: the part before /policy/v1. It may be any policy server; the
    requests look like those of real calls, searches and registrations.

    Exit code 0: the server keeps the contract. 1: it breaks the contract, or fails. 2: it cannot be
    reached or refuses access, or wrong usage. SSL_CERT_FILE names the CA certificates to trust,
    instead of those of the system.
    """
    from rich.console import Console  # noqa: PLC0415 - for this command only

    from pexpolicy.conformance import display  # noqa: PLC0415
    from pexpolicy.conformance.report import as_json, as_junit  # noqa: PLC0415
    from pexpolicy.conformance.runner import UnauthorizedError, UnreachableError  # noqa: PLC0415

    header = _authorization(user, password_env)
    tls = ssl.create_default_context() if url.startswith("https:") else None
    out = Console(stderr=json_path == "-", highlight=False)
    try:
        report = asyncio.run(_run(url, header, alias, caller, tls))
    except UnauthorizedError:
        _fail(f"{url}: {UNAUTHORIZED}")
    except UnreachableError as error:
        hint = "; name its CA in SSL_CERT_FILE" if "not trusted" in str(error) else ""
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


def _authorization(user: str | None, variable: str | None) -> str | None:
    """Return the ``Authorization`` header with the password in a variable of the environment."""
    from pexpolicy.conformance.http_client import basic  # noqa: PLC0415 - for this command only

    if user is None and variable is None:
        return None
    if user is None or variable is None:
        raise click.UsageError("--user and --password-env belong together")
    if (password := os.environ.get(variable)) is None:
        raise click.UsageError(f"there is no environment variable {variable}")
    if ":" in user:
        raise click.UsageError("a user name cannot contain a colon")
    return basic(user, password)


def _fail(text: str) -> NoReturn:
    click.secho(text, fg="red", err=True)
    sys.exit(EX_USAGE)


async def _run(
    url: str,
    authorization: str | None,
    alias: str,
    caller: str,
    tls: ssl.SSLContext | None,
) -> Report:
    from rich.console import Console  # noqa: PLC0415 - for this command only

    from pexpolicy.conformance.display import progress_bar  # noqa: PLC0415
    from pexpolicy.conformance.http_client import connected  # noqa: PLC0415
    from pexpolicy.conformance.report import Report  # noqa: PLC0415
    from pexpolicy.conformance.runner import ConformanceTest  # noqa: PLC0415

    report = Report(url)
    async with connected(url, authorization=authorization, limit=TIMEOUT_S, tls=tls) as wire:
        test = ConformanceTest(wire, alias=alias, caller=caller)
        with progress_bar(Console(stderr=True), test.length) as bar:
            async for result in test.run():
                report.results.append(result)
                bar.advance(result)
    report.conclude()
    return report
