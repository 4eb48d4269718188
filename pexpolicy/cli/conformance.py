"""``pexpolicy conformance``: the command, and the report on a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import click

from pexpolicy.cli.common import count, examples, json_option, print_json, refuse
from pexpolicy.cli.http_client import profile
from pexpolicy.conformance.findings import Finding, Level
from pexpolicy.conformance.http_client import connected
from pexpolicy.conformance.replies import UNREADABLE
from pexpolicy.conformance.runner import (
    HTTP_FLOW,
    ConformanceTest,
    StepResult,
    UnauthorizedError,
    UnreachableError,
)
from pexpolicy.testing.report import BAD, GOOD, QUIET, WARNING, Line, print_parts
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
    found = [finding.level for result in results for finding in result.findings]
    return {level: found.count(level) for level in Level}


def document(url: str, results: Results) -> dict[str, Any]:
    """Return the report for programs."""
    steps = [result._asdict() for result in results]
    for step in steps:
        step["ms"] = round(step.pop("seconds") * 1000, 1)
        step["findings"] = [finding._asdict() for finding in step["findings"]]
    return {
        "url": url,
        "passes": passes(results),
        "findings": counts(results),
        "slowest_ms": max((step["ms"] for step in steps), default=0.0),
        "steps": steps,
    }


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


def utf8(text: str) -> str:
    """Return the text; other bytes than UTF-8 cannot be in a request."""
    if not is_utf8(text):
        raise click.BadParameter("this is not UTF-8 text; is the terminal set to UTF-8?")
    return text


@click.command(
    epilog=examples(
        "pexpolicy conformance http://127.0.0.1:8000",
        "pexpolicy conformance https://pexip@policy.example.com --json",
    )
)
@click.argument("server", type=profile, metavar="URL")
@click.option(
    "--alias",
    type=utf8,
    metavar="TEXT",
    default="meet.bob",
    show_default=True,
    help="The alias that is dialed.",
)
@click.option(
    "--caller",
    type=utf8,
    metavar="TEXT",
    default="alice@example.com",
    show_default=True,
    help="The alias that calls, registers, and whose avatar is requested.",
)
@json_option
def conformance(server: tuple[str, str | None], alias: str, caller: str, *, as_json: bool) -> None:
    """Check the replies of any policy server at URL.

    Sends the requests of a Conferencing Node. URL is that of the policy profile: the part before
    /policy/v1; https://USER@SERVER takes the password from PEXPOLICY_PASSWORD. It may be any policy
    server; the requests look like those of real calls, searches and registrations.

    Exit code 0: the server keeps the contract. 1: it breaks the contract, or fails. 2: it cannot be
    reached or refuses access, or wrong usage. SSL_CERT_FILE names the CA certificates to trust,
    instead of those of the system.
    """
    url, authorization = server
    try:
        results = asyncio.run(_run(url, authorization, alias, caller))
    except UnauthorizedError:
        refuse(f"{url}: the server refuses access (401): user or password is wrong or missing")
    except UnreachableError as error:
        hint = "; name its CA in SSL_CERT_FILE" if "not trusted" in str(error) else ""
        refuse(f"{url} cannot be reached: {error}{hint}")
    if as_json:
        print_json(document(url, results))
    else:
        print_parts(parts(url, results))
    sys.exit(0 if passes(results) else 1)


async def _run(url: str, authorization: str | None, alias: str, caller: str) -> list[StepResult]:
    async with connected(url, authorization=authorization) as wire:
        test = ConformanceTest(wire, alias=alias, caller=caller)
        return [result async for result in test.run()]
