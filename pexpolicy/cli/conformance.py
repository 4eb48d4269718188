"""``pexpolicy conformance``: the command, and the report on a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click

from pexpolicy.cli.common import count, examples, refuse
from pexpolicy.cli.http_client import ServerUrl
from pexpolicy.config.outgoing import basic
from pexpolicy.conformance.check_reply import UNREADABLE
from pexpolicy.conformance.findings import Finding, Level
from pexpolicy.conformance.http_client import connected
from pexpolicy.conformance.runner import (
    HTTP_FLOW,
    ConformanceTest,
    StepResult,
    UnauthorizedError,
    UnreachableError,
)
from pexpolicy.testing.report import BAD, GOOD, QUIET, WARNING, Line, console, print_parts
from pexpolicy.text import is_utf8

NOT_FOUND = "every request got 404: is this the URL of a policy server, with its base path?"
MAX_TARGET = 160
"""Characters of a target that are shown; JSON has all of them."""
Results = Sequence[StepResult]


def passes(results: Results) -> bool:
    """Return whether no finding fails the server."""
    return not any(result.fails for result in results)


def counts(results: Results) -> dict[Level, int]:
    """Return the number of findings of each level."""
    found = Counter(finding.level for result in results for finding in result.findings)
    return {level: found[level] for level in Level}


def as_json(url: str, results: Results) -> str:
    """Return the report as JSON."""
    names = ("flow", "step", "endpoint", "target", "status")
    steps = [
        {name: getattr(result, name) for name in names}
        | {"ms": round(result.seconds * 1000, 1), "findings": [*map(asdict, result.findings)]}
        for result in results
    ]
    document = {
        "url": url,
        "passes": passes(results),
        "findings": counts(results),
        "slowest_ms": max((step["ms"] for step in steps), default=0.0),
        "steps": steps,
    }
    return json.dumps(document, indent=2)


def parts(url: str, results: Results) -> Iterator[Line]:
    """Yield each finding once for each endpoint, the worst first, and the verdict."""
    groups: dict[tuple[Finding, str], list[StepResult]] = {}
    for result in results:
        for finding in result.findings:
            groups.setdefault((finding, result.endpoint), []).append(result)
    for level in Level:
        for (finding, endpoint), steps in groups.items():
            if finding.level is level:
                yield from _finding(finding, endpoint, steps)
    yield _verdict(url, results)


def _finding(finding: Finding, endpoint: str, steps: Results) -> Iterator[Line]:
    place = f" in {endpoint}" if endpoint else ""
    times = f", {len(steps)} times" if len(steps) > 1 else ""
    style = BAD if finding.level.fails else WARNING
    yield Line(f"{finding.level} {finding.topic}{place}{times}", style)
    mark = f" [{finding.mark}]" if finding.mark else ""
    yield Line(f"{finding.text}{mark}", indent=2)
    yield Line(f"{steps[0].flow}: {steps[0].step}", QUIET, 2)
    if target := steps[0].target:
        cut = "…" if len(target) > MAX_TARGET else ""
        yield Line(f"GET {target[:MAX_TARGET]}{cut}", QUIET, 2, is_whole=True)


def _verdict(url: str, results: Results) -> Line:
    numbers = counts(results)
    told = [count(number, f"{level} finding") for level, number in numbers.items() if number]
    tail = f"{', '.join(told) or 'no findings'}; {len(results)} requests"
    if not passes(results):
        verdict = "breaks the contract" if numbers[Level.CONTRACT] else "fails in operation"
        return Line(f"{url} {verdict}: {tail}", BAD, is_whole=True)
    # The query of 20 KB may be refused before its path is read.
    statuses = {result.status for result in results if result.flow != HTTP_FLOW}
    if HTTPStatus.NOT_FOUND in statuses and statuses <= {HTTPStatus.NOT_FOUND, *UNREADABLE}:
        return Line(f"{url}: {NOT_FOUND} {tail}", WARNING, is_whole=True)
    return Line(f"{url} keeps the contract: {tail}", GOOD, is_whole=True)


def base_url(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return the URL of a policy profile without credentials."""
    if urlsplit(value).username is not None:
        raise click.BadParameter("give the credentials with --user and --password-env")
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
    )
)
@click.argument("url", type=ServerUrl(is_profile=True), callback=base_url)
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
def conformance(
    url: str,
    user: str | None,
    password_env: str | None,
    alias: str,
    caller: str,
    json_path: str | None,
) -> None:
    """Check the replies of any policy server at URL.

    Sends the requests of a Conferencing Node. URL is that of the policy profile: the part before
    /policy/v1. It may be any policy server; the requests look like those of real calls, searches
    and registrations.

    Exit code 0: the server keeps the contract. 1: it breaks the contract, or fails. 2: it cannot be
    reached or refuses access, or wrong usage. SSL_CERT_FILE names the CA certificates to trust,
    instead of those of the system.
    """
    header = _authorization(user, password_env)
    try:
        results = asyncio.run(_run(url, header, alias, caller))
    except UnauthorizedError:
        refuse(f"{url}: the server refuses access (401): user or password is wrong or missing")
    except UnreachableError as error:
        hint = "; name its CA in SSL_CERT_FILE" if "not trusted" in str(error) else ""
        refuse(f"{url} cannot be reached: {error}{hint}")
    print_parts(parts(url, results), console(stderr=json_path == "-"))
    if json_path == "-":
        click.echo(as_json(url, results))
    elif json_path is not None:
        Path(json_path).write_text(as_json(url, results) + "\n", encoding="utf-8")
    sys.exit(0 if passes(results) else 1)


def _authorization(user: str | None, variable: str | None) -> str | None:
    """Return the ``Authorization`` header with the password in a variable of the environment."""
    if user is None and variable is None:
        return None
    if user is None or variable is None:
        raise click.UsageError("--user and --password-env belong together")
    if (password := os.environ.get(variable)) is None:
        raise click.UsageError(f"there is no environment variable {variable}")
    if ":" in user:
        raise click.UsageError("a user name cannot contain a colon")
    return basic(user, password)


async def _run(url: str, authorization: str | None, alias: str, caller: str) -> list[StepResult]:
    async with connected(url, authorization=authorization) as wire:
        test = ConformanceTest(wire, alias=alias, caller=caller)
        return [result async for result in test.run()]
