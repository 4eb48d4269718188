"""``pexpolicy local-policy``: run, lint, test, import and export scripts."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import click
from jinja2 import TemplateSyntaxError
from pydantic import BaseModel, ConfigDict, Field

from pexpolicy.cli.common import print_json
from pexpolicy.config.toml_tables import validated
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.models.difference import NOTHING, Difference, one_line, unmet
from pexpolicy.policy import Policy
from pexpolicy.testing import ConfigError, make_policy
from pexpolicy.testing.cases import BadCaseError, NamedCase, case_row, chosen_or_exit, read_cases
from pexpolicy.testing.report import Row, as_json, show
from pexpolicy.text import printable
from pexpolicy_local_policy.export import ExportError
from pexpolicy_local_policy.export import export as exported
from pexpolicy_local_policy.language import MAX_SCRIPT_LENGTH, parse, unknown_points
from pexpolicy_local_policy.lint import lint as findings_of
from pexpolicy_local_policy.node_policy import told_kind
from pexpolicy_local_policy.script_process import COMMAND_SECONDS, Job, Rendering, ScriptPool
from pexpolicy_local_policy.variables import (
    VARIABLES,
    Kind,
    LocalPolicyError,
    ScriptInput,
    given_input,
    kind_of,
    read_json,
    read_moment,
    read_text,
    recorded_input,
)
from pexpolicy_local_policy.verdict import HIDDEN, Verdict, given_secrets, judge, without

_TOP = ("case", "kind", "script")
_NAMES = tuple(dict.fromkeys(name for names in VARIABLES.values() for name in names))


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Expected(_Table):
    """What is expected; a key that is left out may be anything."""

    action: Literal["continue", "reject", "redirect"] | None = None
    result: dict[str, Any] | None = None
    """Fields of the result; others may have any value."""
    changed: list[str] | None = None
    """The names of all fields that differ from those before the script."""
    dropped: bool | str = False
    """True where Infinity should drop the output; a text is a part of the reason."""
    debug: list[str] | None = None
    """The lines of pex_debug_log."""


class _CaseTable(_Table):
    name: str = Field(min_length=1)
    script: str | None = None
    kind: Kind | None = None
    at: datetime | date | str | None = None
    input: str | None = None
    request: str | None = None
    call_info: dict[str, Any] | None = None
    service_config: dict[str, Any] | None = None
    participant: dict[str, Any] | None = None
    suggested_media_overflow_locations: dict[str, Any] | None = None
    expect: Expected = Expected()


@dataclass(frozen=True, slots=True)
class ScriptCase(NamedCase):
    """One run of a script, and what is expected of it."""

    script: Path
    source: str
    given: ScriptInput
    expected: Expected
    at: float | None = None
    """The time of ``pex_now`` in seconds since 1970; ``None`` for the present."""


def load_script_cases(path: Path) -> list[ScriptCase]:
    """Return the cases of a TOML file, in their order.

    Raises ``CasesError`` with all problems.
    """

    def make(document: Mapping[str, Any], table: Mapping[str, Any]) -> ScriptCase:
        read, issues = validated(table, _CaseTable, {})
        if read is None or issues:
            raise BadCaseError(*issues)
        try:
            return _case(path, document, read)
        except LocalPolicyError as error:
            raise BadCaseError(error) from None

    return read_cases(path, make, _TOP)


def _case(path: Path, document: Mapping[str, Any], table: _CaseTable) -> ScriptCase:
    written = table.script or document.get("script")
    if not isinstance(written, str):
        raise LocalPolicyError("script: is missing; name it here, or above all cases")
    script = path.parent / written
    source = read_text(script)
    given = {name: value for name in _NAMES if (value := getattr(table, name)) is not None}
    kind = table.kind or document.get("kind")
    if kind is None and table.request is not None:
        kind = recorded_input(table.request, None)[0].kind
    kind = kind or kind_of(given) or told_kind(source)
    if kind not in tuple(VARIABLES):  # a list has no hash
        raise LocalPolicyError(f"kind: is not one of {', '.join(VARIABLES)}")
    input_file = None if table.input is None else path.parent / table.input
    variables, at = given_input(kind, input_file, table.request, given)
    if table.at is not None:
        at = read_moment(str(table.at))
    seconds = None if at is None else at.timestamp()
    return ScriptCase(table.name, path, script, source, variables, table.expect, seconds)


async def run_case(pool: ScriptPool, case: ScriptCase) -> Row:
    """Run the script of a case and compare."""
    began = time.perf_counter()
    rendering = await pool.run(Job(case.source, case.given.variables, case.at))
    seconds = time.perf_counter() - began
    verdict = judge(case.given, rendering)
    secrets = given_secrets(case.given)
    summary = without(verdict.summary, secrets)
    debug = [without(line, secrets) for line in rendering.debug]
    return case_row(
        case,
        [*_differences(case, verdict, rendering)],
        seconds,
        kind=case.script.name,
        remark=summary.partition(". ")[0],
        lines=[
            f"verdict: {summary}",
            *(f"pex_debug_log: {line}" for line in debug),
            *(f"warning: {text}" for text in verdict.warnings),
        ],
        facts={
            "script": str(case.script),
            "kind": case.given.kind,
            "verdict": summary,
            "debug": debug,
            "warnings": list(verdict.warnings),
        },
    )


def _differences(case: ScriptCase, verdict: Verdict, rendering: Rendering) -> Iterator[Difference]:
    expected, secrets = case.expected, given_secrets(case.given)
    if expected.dropped is False:
        if verdict.dropped:
            yield Difference("dropped", "false", without(verdict.dropped, secrets))
            return
    elif not verdict.dropped:
        yield Difference("dropped", "true", "false")
    elif isinstance(expected.dropped, str) and expected.dropped not in verdict.dropped:
        yield Difference("dropped", expected.dropped, without(verdict.dropped, secrets))
    if expected.action not in (None, verdict.action or "continue"):
        yield Difference("action", str(expected.action), verdict.action or "continue")
    if expected.result is not None:
        yield from unmet("result", expected.result, verdict.result, _shown, _shown)
    if expected.changed is not None and sorted(expected.changed) != sorted(verdict.changed):
        wanted, found = (", ".join(sorted(names)) for names in (expected.changed, verdict.changed))
        yield Difference("changed", wanted or NOTHING, found or NOTHING)
    if expected.debug is not None and expected.debug != list(rendering.debug):
        logged = without(" / ".join(rendering.debug), secrets)
        yield Difference("debug", " / ".join(expected.debug) or NOTHING, logged or NOTHING)


def _shown(name: str, value: Any) -> str:
    return HIDDEN if name in PROTECTIONS and value else one_line(value, PROTECTIONS, HIDDEN)


EX_FAILED, EX_USAGE = 1, 2
EX_DATAERR = 65
"""Exit code where Infinity would drop what a script gives (sysexits.h)."""
FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
KINDS = click.Choice(list(VARIABLES))
_COLOURS = {"error": "red", "warning": "yellow", "note": None}
_TEMPLATES = {
    "internal_service_policy_template": "service",
    "internal_participant_policy_template": "participant",
    "internal_media_location_policy_template": "media_location",
}
_MAX_SHOWN_LINES = 40
T = TypeVar("T")


@click.group(
    "local-policy",
    no_args_is_help=True,
    epilog="\b\nExamples:\n"
    "  pexpolicy local-policy run service.jinja2 --input variables.json\n"
    "  pexpolicy local-policy lint service.jinja2",
)
def local_policy() -> None:
    """Run, check and convert local policy scripts of Pexip Infinity."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """Print what cannot be used, and exit with 2."""
    try:
        yield
    except LocalPolicyError as error:
        fail(str(error))


def fail(text: str) -> NoReturn:
    """Print an error and exit with 2."""
    say(text, "red")
    sys.exit(EX_USAGE)


def policy_of(config: Path) -> Policy:
    """Return the policy of a configuration, or exit with 2."""
    try:
        return make_policy(config)
    except ConfigError as error:
        fail(str(error))


def notes(texts: Iterable[str], label: str = "note", colour: str | None = "yellow") -> None:
    """Print lines with a label on standard error."""
    for text in texts:
        say(f"{label}: {text}", colour)


def say(text: str, colour: str | None = None, *, err: bool = True) -> None:
    """Print a line."""
    click.secho(printable(text), fg=colour, err=err)


async def _with_pool(use: Callable[[ScriptPool], Awaitable[T]]) -> T:
    async with ScriptPool(1, COMMAND_SECONDS).running() as pool:
        return await use(pool)


@local_policy.command(
    epilog="\b\nExamples:\n  pexpolicy local-policy run service.jinja2 --input variables.json",
)
@click.argument("script", type=FILE)
@click.option("--kind", type=KINDS, help="By default what the input or the request tells.")
@click.option(
    "--input",
    "input_file",
    type=FILE,
    metavar="FILE",
    help="The variables as JSON, as on Pexip's test page: call_info, service_config, ...",
)
@click.option(
    "--request", metavar="REQUEST", help="A request to take call_info from: a URL or a log line."
)
@click.option("--at", metavar="TIME", help="The time of pex_now, as '2026-12-24 22:00 UTC'.")
@usage_errors()
def run(
    script: Path,
    kind: Kind | None,
    input_file: Path | None,
    request: str | None,
    at: str | None,
) -> None:
    """Run SCRIPT once: its JSON on standard output, the verdict on standard error.

    Exit code 0: Infinity would apply the JSON. 65: it would drop it. 2: wrong usage.
    """
    found, moment = given_input(kind, input_file, request, {})
    if at is not None:
        moment = read_moment(at)
    source = read_text(script)
    job = Job(source, found.variables, None if moment is None else moment.timestamp())
    rendering = asyncio.run(_with_pool(lambda pool: pool.run(job)))
    verdict = judge(found, rendering)
    notes(found.remarks)
    if len(source) > MAX_SCRIPT_LENGTH:
        notes([f"{len(source):,} characters, and Infinity stores {MAX_SCRIPT_LENGTH:,}"])
    with suppress(TemplateSyntaxError, RecursionError):
        notes(f"line {line}: {text}" for line, text in unknown_points(parse(source)))
    notes(rendering.debug, "pex_debug_log", "cyan")
    notes(verdict.warnings, "warning")
    if verdict.document is not None:
        print_json(verdict.document)
    elif rendering.text.strip():
        lines = rendering.text.splitlines()[:_MAX_SHOWN_LINES]
        notes((f"{number:>4}  {line}" for number, line in enumerate(lines, 1)), "output", None)
    say(f"verdict: {verdict.summary}", "red" if verdict.dropped else "green")
    sys.exit(EX_DATAERR if verdict.dropped else 0)


@local_policy.command(
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
@usage_errors()
def lint(script: Path, kind: Kind | None, config: Path | None) -> None:
    """Check SCRIPT: its output for sample variables of each service type, its filters, and what
    callers choose.

    Exit code 0: no error. 65: an error. 2: wrong usage.
    """
    source = read_text(script)
    infinity = None if config is None else policy_of(config).settings.infinity
    known = () if infinity is None else (infinity.extras, ObjectNames(infinity.names).check)
    used = kind or told_kind(source)
    found = asyncio.run(_with_pool(lambda pool: findings_of(pool, source, used, *known)))
    for finding in found:
        say(str(finding), _COLOURS[finding.level], err=False)
    errors = sum(finding.level == "error" for finding in found)
    if errors and kind is None:
        say(f"note: it was checked as a {used} script; --kind names another kind", err=False)
    say(f"{script}: {errors} errors, {len(found) - errors} warnings and notes", err=False)
    sys.exit(EX_DATAERR if errors else 0)


@local_policy.command(
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
@usage_errors()
def import_(file: Path, into: Path) -> None:
    """Write the scripts of policy profiles in FILE, the JSON of the Management API, as files.

    FILE is what /api/admin/configuration/v1/policy_server/ replies. Existing files are kept.
    """
    document = read_json(file)
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


@local_policy.command(epilog="\b\nExamples:\n  pexpolicy local-policy test cases.toml")
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@click.option("--json", "wants_json", is_flag=True, help="Print JSON.")
def test(cases: tuple[Path, ...], only: str, *, wants_json: bool) -> None:
    """Run files of variables and expected results against scripts.

    Exit code 0: all cases passed. 1: a case failed. 2: no case ran, or wrong usage.
    """
    chosen = chosen_or_exit(cases, load_script_cases, only)
    began = time.monotonic()
    results = asyncio.run(_with_pool(lambda pool: _rows(pool, chosen)))
    seconds = time.monotonic() - began
    if wants_json:
        click.echo(json.dumps(as_json(results, seconds), indent=2))
    else:
        show(results, seconds)
    sys.exit(0 if all(row.ok for row in results) else EX_FAILED)


async def _rows(pool: ScriptPool, cases: Sequence[ScriptCase]) -> list[Row]:
    return [await run_case(pool, case) for case in cases]


@local_policy.command(epilog="\b\nExamples:\n  pexpolicy local-policy export > service.jinja2")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="PEXPOLICY_CONFIG",
    default=Path("config.toml"),
    show_default=True,
    metavar="FILE",
)
@click.option("--kind", type=KINDS, default="service", show_default=True)
def export(config: Path, kind: Kind) -> None:
    """Print the rules of a configuration as a script that decides the same.

    Exit code 0: the script is on standard output. 65: it cannot decide the same; the reasons are on
    standard error. 2: wrong usage.
    """
    try:
        script = exported(policy_of(config), kind)
    except ExportError as error:
        for problem in error.problems:
            say(f"{config}: {problem}", "red")
        sys.exit(EX_DATAERR)
    click.echo(script, nl=False)
