"""``pexpolicy conformance``: the command, its progress, and the report on a server."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from pexpolicy.cli.common import examples, refuse
from pexpolicy.cli.http_client import ServerUrl
from pexpolicy.conformance.check_reply import UNREADABLE
from pexpolicy.conformance.findings import Finding, Level, Topic, warning
from pexpolicy.conformance.http_client import LIMIT, basic, connected
from pexpolicy.conformance.runner import (
    HTTP_FLOW,
    ConformanceTest,
    StepResult,
    UnauthorizedError,
    UnreachableError,
)
from pexpolicy.testing import report as writers
from pexpolicy.testing.report import BAD, GOOD, QUIET, TITLE, WARNING, Row, Table
from pexpolicy.text import is_utf8, printable

EX_FAILED = 1
EX_USAGE = 2
UNAUTHORIZED = "the server refuses access (401): user or password is wrong or missing"
NOT_FOUND = "every request got 404: is this the URL of a policy server, with its base path?"
NOUNS = {
    Level.CONTRACT: "contract violation",
    Level.OPERATION: "operation fault",
    Level.FALLBACK: "fallback",
    Level.WARNING: "warning",
}
MAX_TARGET = 160
"""Characters of a target that are shown; the JSON report has all of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all steps against one server."""

    url: str
    results: list[StepResult] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """True if no finding fails the server."""
        return not any(result.fails for result in self.results)

    @property
    def only_404(self) -> bool:
        """True if no reply shows that the URL is that of a policy server.

        The query of 20 KB may be refused before its path is read.
        """
        statuses = {result.status for result in self.results if result.flow != HTTP_FLOW}
        return HTTPStatus.NOT_FOUND in statuses and statuses <= {HTTPStatus.NOT_FOUND, *UNREADABLE}

    def conclude(self) -> None:
        """Add a warning to the first step if every request got 404."""
        if self.only_404:
            first = self.results[0]
            doubt = warning(Topic.STATUS, NOT_FOUND)
            self.results[0] = replace(first, findings=(*first.findings, doubt))

    @property
    def slowest(self) -> float:
        """The duration of the slowest reply in seconds."""
        return max((result.seconds for result in self.results), default=0.0)

    def grouped(self) -> list[tuple[Finding, str, list[StepResult]]]:
        """Return each finding once for each endpoint, with its steps, the most severe first."""
        groups: dict[tuple[Finding, str], list[StepResult]] = {}
        for result in self.results:
            for finding in result.findings:
                groups.setdefault((finding, result.endpoint), []).append(result)
        found = [(finding, endpoint, steps) for (finding, endpoint), steps in groups.items()]
        return sorted(found, key=lambda group: [*Level].index(group[0].level))

    def rows(self) -> list[Row]:
        """Return a row for each step."""
        return [_row(result) for result in self.results]

    def as_json(self) -> str:
        """Return the report as JSON."""
        document = {
            "url": self.url,
            "passes": self.passes,
            "findings": _counts(self.results),
            "slowest_ms": round(self.slowest * 1000, 1),
            "steps": [_step(result) for result in self.results],
        }
        return json.dumps(document, indent=2)


def _counts(results: Sequence[StepResult]) -> dict[Level, int]:
    levels = [finding.level for result in results for finding in result.findings]
    return {level: levels.count(level) for level in Level}


def _row(result: StepResult) -> Row:
    first = next((f for f in result.findings if f.level.fails), None)
    lines = [f"{f.level}: {f.topic}: {f.text} [{f.mark}]" for f in result.findings]
    return Row(
        result.flow,
        result.step,
        ok=first is None,
        text=first.text if first else "",
        topic=first.topic if first else "",
        lines=[*lines, f"{result.method} {result.target}"] if first else lines,
        seconds=result.seconds,
        kind=f"{result.flow}.{result.endpoint}",
    )


def _step(result: StepResult) -> dict[str, Any]:
    names = ("flow", "step", "endpoint", "method", "target", "status")
    return {
        **{name: getattr(result, name) for name in names},
        "ms": round(result.seconds * 1000, 1),
        "findings": [
            {name: getattr(finding, name) for name in ("level", "topic", "text", "mark")}
            for finding in result.findings
        ],
    }


def show(out: Console, report: Report) -> None:
    """Print the flows as a table, the findings, and the verdict."""
    writers.print_parts([_flows(report)], out)
    for finding, endpoint, steps in report.grouped():
        out.print(_finding(finding, endpoint, len(steps)))
        out.print(_where(steps[0]), soft_wrap=True)
    out.print()
    out.print(_verdict(report), soft_wrap=True)


def _flows(report: Report) -> Table:
    rows, styles = [], []
    for flow, found in groupby(report.results, lambda result: result.flow):
        steps = list(found)
        counts = _counts(steps)
        slowest = f"{max(result.seconds for result in steps) * 1000:.1f}"
        shown = (str(count or "-") for count in counts.values())
        rows.append((flow, str(len(steps)), *shown, slowest))
        styles.append(next((_style(level) for level, count in counts.items() if count), ""))
    return Table(("flow", "requests", *Level, "slowest ms"), rows, range(1, 7), styles)


def _style(level: Level) -> str:
    return BAD if level.fails else WARNING


def _finding(finding: Finding, endpoint: str, times: int) -> Text:
    return Text.assemble(
        "\n",
        (f"{finding.level} ", _style(finding.level)),
        (finding.topic, TITLE),
        f" in {endpoint}" if endpoint else "",
        (f", {times} times" if times > 1 else "", QUIET),
        f"\n  {printable(finding.text)}",
        (f" [{finding.mark}]" if finding.mark else "", QUIET),
    )


def _where(result: StepResult) -> Text:
    text = Text(f"  {result.flow}: {result.step}", QUIET)
    if result.target:
        cut = "…" if len(result.target) > MAX_TARGET else ""
        text.append(f"\n  {result.method} {result.target[:MAX_TARGET]}{cut}")
    return text


def _verdict(report: Report) -> Text:
    numbers = _counts(report.results)
    counted = ", ".join(
        f"{numbers[level]} {noun}{'' if numbers[level] == 1 else 's'}"
        for level, noun in NOUNS.items()
        if numbers[level] or level is Level.WARNING
    )
    tail = f"{counted}; {len(report.results)} requests, slowest {report.slowest * 1000:.0f} ms"
    if report.passes and report.only_404:
        return Text(f"{report.url}: {NOT_FOUND} {tail}", WARNING)
    if report.passes:
        return Text(f"{report.url} keeps the contract: {tail}", GOOD)
    verdict = "breaks the contract" if numbers[Level.CONTRACT] else "fails in operation"
    return Text(f"{report.url} {verdict}: {tail}", BAD)


class ProgressBar:
    """The line that shows the progress, on a terminal only."""

    def __init__(self, console: Console, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, counts="")
        self._counts = dict.fromkeys(Level, 0)
        self._progress.start()

    def advance(self, result: StepResult) -> None:
        """Show one more step."""
        for finding in result.findings:
            self._counts[finding.level] += 1
        failures = sum(count for level, count in self._counts.items() if level.fails)
        others = sum(self._counts.values()) - failures
        counts = f"[red]{failures}✗[/] [yellow]{others}![/] {result.seconds * 1000:.0f} ms"
        self._progress.update(self._task, advance=1, description=result.flow, counts=counts)

    def close(self) -> None:
        """Remove the line."""
        self._progress.stop()


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
        "pexpolicy conformance https://policy.example.com --json report.json",
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
def conformance(
    url: str,
    user: str | None,
    password_env: str | None,
    alias: str,
    caller: str,
    json_path: str | None,
) -> None:
    """Send the requests of a Conferencing Node to the policy server at URL, and check each reply.

    URL is that of the policy profile: the part before /policy/v1. It may be any policy server; the
    requests look like those of real calls, searches and registrations.

    Exit code 0: the server keeps the contract. 1: it breaks the contract, or fails. 2: it cannot be
    reached or refuses access, or wrong usage. SSL_CERT_FILE names the CA certificates to trust,
    instead of those of the system.
    """
    header = _authorization(user, password_env)
    tls = ssl.create_default_context() if url.startswith("https:") else None
    out = writers.console(stderr=json_path == "-")
    try:
        report = asyncio.run(_run(url, header, alias, caller, tls))
    except UnauthorizedError:
        refuse(f"{url}: {UNAUTHORIZED}")
    except UnreachableError as error:
        hint = "; name its CA in SSL_CERT_FILE" if "not trusted" in str(error) else ""
        refuse(f"{url} cannot be reached: {error}{hint}")
    show(out, report)
    if json_path == "-":
        click.echo(report.as_json())
    elif json_path is not None:
        writers.write_or_exit(Path(json_path), report.as_json() + "\n")
    sys.exit(0 if report.passes else EX_FAILED)


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


async def _run(
    url: str,
    authorization: str | None,
    alias: str,
    caller: str,
    tls: ssl.SSLContext | None,
) -> Report:
    report = Report(url)
    async with connected(url, authorization=authorization, limit=LIMIT, tls=tls) as wire:
        test = ConformanceTest(wire, alias=alias, caller=caller)
        with closing(ProgressBar(Console(stderr=True), test.length)) as bar:
            async for result in test.run():
                report.results.append(result)
                bar.advance(result)
    report.conclude()
    return report
