"""``pexpolicy doctor``."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.builder import policy_from
from pexpolicy.cli.common import capture_log, config_option
from pexpolicy.cli.doctor.audit_check import audit_findings
from pexpolicy.cli.doctor.certificate_check import certificate_findings
from pexpolicy.cli.doctor.findings import Finding, State
from pexpolicy.cli.doctor.machine_checks import (
    clock_finding,
    disk_finding,
    port_findings,
    queue_finding,
)
from pexpolicy.cli.doctor.server_checks import Document, node_findings, server_findings
from pexpolicy.cli.examples import examples
from pexpolicy.cli.http_client import NotAnsweredError, admin_url, cacert_option
from pexpolicy.cli.status import fetch_status, is_same_config
from pexpolicy.config.file_modes import mode_warnings
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.plugins.config_schema import config_schema
from pexpolicy.plugins.discovery import installed
from pexpolicy.policy import BuildContext
from pexpolicy.server.preflight import preflight_problems
from pexpolicy.text import printable

STYLES: dict[State, tuple[str, str, str]] = {
    "ok": ("✓", "+", "green"),
    "skipped": ("·", "-", "dim"),
    "warning": ("!", "!", "yellow"),
    "error": ("✗", "x", "bold red"),
}
"""Symbol, the same in ASCII, and colour of each state."""
_SCHEMA_LINE = re.compile(r"#:schema\s+(\S+)")


@click.command(
    epilog=examples(
        "pexpolicy doctor", "pexpolicy doctor --cacert company-ca.pem --host policy.example.com"
    )
)
@config_option
@cacert_option
@click.option("--host", metavar="NAME", help="The host name in the URL that the nodes call.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config: Path, cacert: Path | None, host: str | None, *, as_json: bool) -> None:
    """Check configuration, files, certificate, machine and server, and list what is wrong.

    Exit code 1 for an error, 0 with warnings only.
    """
    if host is not None and not re.fullmatch(r"[\w.:-]+", host):
        msg = "write the name alone, as in policy.example.com"
        raise click.BadParameter(msg, param_hint="--host")
    findings = list(_findings(config, cacert, host))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    sys.exit(1 if any(finding.state == "error" for finding in findings) else 0)


def _findings(config: Path, cacert: Path | None, host: str | None) -> Iterator[Finding]:
    settings, config_hash, found = _configuration(config)
    yield from found
    if settings is None:
        return
    yield from _modes(settings)
    yield from _format(config)
    document = _status(config, settings)
    yield from port_findings(settings, is_running=document is not None)
    yield from certificate_findings(settings, cacert, host, is_running=document is not None)
    yield queue_finding(settings)
    yield clock_finding()
    yield disk_finding(settings)
    yield from audit_findings(settings)
    if document is None:
        yield Finding("server", "skipped", "not running", "pexpolicy serve")
    else:
        yield from server_findings(document, config_hash)
        yield from node_findings(document)


def _configuration(config: Path) -> tuple[Settings | None, str, list[Finding]]:
    """Return the settings as far as they are usable, their hash, and what is wrong with them."""
    subject = "configuration"
    log, _ = capture_log()
    settings: Settings | None
    try:
        settings = load(config)
    except ConfigError as error:
        settings = error.salvaged
    try:
        policy = policy_from(config, preflight_problems, BuildContext(log=log))
    except ConfigError as error:
        errors = [Finding(subject, "error", str(problem)) for problem in error.problems]
        return settings, "", errors
    policy.close()
    modes = set(mode_warnings(settings)) if settings is not None else set()
    found = [
        Finding(subject, "warning", str(warning))
        for warning in policy.warnings
        if warning not in modes
    ]
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"
    valid = Finding(subject, "ok", f"{config} is valid; plugins: {names}")
    return settings, policy.config_hash, [valid, *found]


def _modes(settings: Settings) -> Iterator[Finding]:
    found = False
    for warning in mode_warnings(settings):
        found = True
        text, _, advice = warning.text.partition(": chmod ")
        yield Finding("file modes", "error", text, f"chmod {advice}" if advice else "")
    if not found:
        yield Finding("file modes", "ok", "no secret can be read by others, no file changed")


def _format(config: Path) -> Iterator[Finding]:
    """Yield whether the file's schema is that of this version and its plugins."""
    subject = "format"
    try:
        line = _SCHEMA_LINE.match(config.read_text(encoding="utf-8-sig"))
        if line is None or "://" in line[1]:
            text = "all keys are those of this version"
            yield Finding(subject, "ok", text)
            return
        path = config.parent / line[1]
        is_current = json.loads(path.read_text(encoding="utf-8")) == config_schema(installed())
    except (OSError, ValueError, RecursionError) as error:
        yield Finding(subject, "warning", f"the schema cannot be read: {error}")
        return
    if is_current:
        yield Finding(subject, "ok", f"all keys are those of this version, as in {path.name}")
    else:
        advice = f"pexpolicy config schema > {path}"
        yield Finding(
            subject, "warning", f"{path.name} is of another version or set of plugins", advice
        )


def _status(config: Path, settings: Settings) -> Document | None:
    """Return the status of the running server of this configuration."""
    if not settings.admin.enabled:
        return None
    token = settings.admin_token
    try:
        document = fetch_status(
            admin_url(settings), token.get_secret_value() if token is not None else None, None
        )
    except NotAnsweredError:
        return None
    return document if is_same_config(config, document["config"]["path"]) else None


def _show(findings: list[Finding]) -> None:
    # Nodes and plugins choose some of the text, so none of it is read as markup.
    console = Console(highlight=False, markup=False, emoji=False)
    is_unicode = "utf" in console.encoding.lower()
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for finding in findings:
        symbol, ascii_symbol, style = STYLES[finding.state]
        text = Text(printable(finding.text), style="dim" if finding.state == "skipped" else "")
        if finding.advice:
            text.append(f"\n{printable(finding.advice)}", style="cyan")
        subject = "" if finding.subject == before else finding.subject
        table.add_row(
            Text(symbol if is_unicode else ascii_symbol, style=style), Text(subject, "bold"), text
        )
        before = finding.subject
    console.print(table)
    counts = Counter(finding.state for finding in findings)
    errors, warnings = counts["error"], counts["warning"]
    summary = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    console.print(Text(f"\n{summary}", "red" if errors else "yellow" if warnings else "green"))
