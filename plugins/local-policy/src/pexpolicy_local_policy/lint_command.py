"""``pexpolicy local-policy lint`` and ``import``."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import click

from pexpolicy.explain.explanation import LocalPolicyError, known_to_infinity
from pexpolicy_local_policy.command_input import (
    EX_DATAERR,
    FILE,
    KINDS,
    SECONDS,
    fail,
    json_of,
    say,
    text_of,
)
from pexpolicy_local_policy.lint import LintFinding
from pexpolicy_local_policy.lint import lint as findings_of
from pexpolicy_local_policy.node_policy import told_kind
from pexpolicy_local_policy.script_process import ScriptPool
from pexpolicy_local_policy.variables import Kind

_COLOURS = {"error": "red", "warning": "yellow", "note": None}
_TEMPLATES = {
    "internal_service_policy_template": "service",
    "internal_participant_policy_template": "participant",
    "internal_media_location_policy_template": "media_location",
}


@click.command(
    epilog="\b\nExamples:\n  pexpolicy local-policy lint participant.jinja2 --kind participant",
)
@click.argument("script", type=FILE)
@click.option("--kind", type=KINDS, help="By default what the variables of the script tell.")
@click.option(
    "--config",
    type=FILE,
    metavar="FILE",
    help="A configuration whose [infinity] lists the names that Infinity knows.",
)
def lint(script: Path, kind: Kind | None, config: Path | None) -> None:
    """Check SCRIPT: its output for sample variables of each service type, its filters, and what
    callers choose.

    Exit code 0: no error. 65: an error. 2: wrong usage.
    """
    source = text_of(script)
    try:
        known = known_to_infinity(config) if config is not None else ()
    except LocalPolicyError as error:
        fail(str(error))
    used = kind or told_kind(source)
    found = asyncio.run(_lint(source, used, *known))
    for finding in found:
        say(str(finding), _COLOURS[finding.level], err=False)
    errors = sum(finding.level == "error" for finding in found)
    if errors and kind is None:
        say(f"note: it was checked as a {used} script; --kind names another kind", err=False)
    say(f"{script}: {errors} errors, {len(found) - errors} warnings and notes", err=False)
    sys.exit(EX_DATAERR if errors else 0)


async def _lint(source: str, kind: Kind, *known: Any) -> list[LintFinding]:
    async with ScriptPool(1, SECONDS).running() as pool:
        return await findings_of(pool, source, kind, *known)


@click.command(
    "import",
    epilog="\b\nExamples:\n  pexpolicy local-policy import policy_server.json --into scripts",
)
@click.argument("file", type=FILE)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The folder for the scripts; by default the current one.",
)
def import_(file: Path, into: Path) -> None:
    """Write the scripts of policy profiles in FILE, the JSON of the Management API, as files.

    FILE is what /api/admin/configuration/v1/policy_server/ replies. Existing files are kept.
    """
    document = json_of(file)
    listed = document.get("objects", [document]) if isinstance(document, dict) else document
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        fail(f"{file}: is no list of policy profiles")
    written = 0
    for profile in listed:
        name = re.sub(r"[^A-Za-z0-9]+", "-", str(profile.get("name", ""))).strip("-").lower()
        for key, kind in _TEMPLATES.items():
            text = profile.get(key)
            if not isinstance(text, str) or not text.strip():
                continue
            path = into / f"{name or 'profile'}-{kind}.jinja2"
            try:
                content = text.encode()
                into.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as target:
                    target.write(content)
            except UnicodeEncodeError:
                fail(f"{path}: cannot be written: the script holds half a character")
            except OSError as error:
                fail(f"{path}: cannot be written: {error.strerror}")
            say(f"{path}: written", err=False)
            written += 1
    if not written:
        fail(f"{file}: no policy profile has a script")
