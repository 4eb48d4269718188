"""``pexpolicy import`` and ``pexpolicy export``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from pexpolicy.cli.common import config_option, count
from pexpolicy.config.csv_tables import TableError
from pexpolicy.text import printable_lines
from pexpolicy_importers import (
    csv_files,
    django_policy,
    infinity_rooms,
    policy_router,
    subnet_maps,
)
from pexpolicy_importers.toml_merge import ImportFailed, MergeSummary

EX_DATAERR = 65
"""Exit code for a file that cannot be imported (sysexits.h)."""
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


def _examples(*lines: str) -> str:
    """Return the examples of a command, which no terminal wraps."""
    return "\n".join(["\b", "Examples:", *(f"  pexpolicy {line}" for line in lines)])


_into = partial(
    click.option, "--into", type=click.Path(path_type=Path, dir_okay=False), show_default=True
)
rule_file = _into(default=Path("rules.toml"), help="The rule file.")
config_file = _into(default=Path("config.toml"), help="The configuration.")


@click.group("import", epilog=_examples("import rules rules.csv", "import subnets subnets.json"))
def import_() -> None:
    """Import rules, rooms, subnets or domains; existing entries are updated, and comments stay."""


@import_.command(epilog=_examples("import rules rules.csv --into rules.toml"))
@click.argument("file", type=_FILE)
@rule_file
def rules(file: Path, into: Path) -> None:
    """Rules from a CSV FILE, such as ``pexpolicy export rules`` writes."""
    with _errors_reported():
        imported, rows = csv_files.read_csv(file)
        if issues := csv_files.validation_issues(imported, into.parent):
            raise TableError(*(rows[number].fault(text) for number, text in issues))
        _report(into, csv_files.merge(into, imported))


@import_.command(epilog=_examples("import rooms policy.py"))
@click.argument("file", type=_FILE)
@config_file
def rooms(file: Path, into: Path) -> None:
    """Rooms from a dictionary in a Python FILE, which is parsed and not executed."""
    with _errors_reported():
        found = django_policy.find_rooms(file)
        _report(into, django_policy.merge_rooms(into, found.values), found.remarks)


@import_.command(epilog=_examples("import domains policy.py"))
@click.argument("file", type=_FILE)
@config_file
def domains(file: Path, into: Path) -> None:
    """Domains that may register, from a list in a Python FILE, which is parsed and not executed."""
    with _errors_reported():
        found = django_policy.find_domains(file)
        _report(into, django_policy.merge_domains(into, found.values), found.remarks)


@import_.command(epilog=_examples("import subnets subnets.json"))
@click.argument("file", type=_FILE)
@config_file
def subnets(file: Path, into: Path) -> None:
    """Locations by subnet from a FILE in JSON: mappings, default_location."""
    with _errors_reported():
        found = subnet_maps.read_map(file)
        _report(into, subnet_maps.merge_map(into, found), found.remarks)


@import_.command("router", epilog=_examples("import router rules.csv --into rules.toml"))
@click.argument("file", type=_FILE)
@rule_file
def from_router(file: Path, into: Path) -> None:
    """Rules from the CSV FILE of a server that routed requests by regular expressions."""
    with _errors_reported():
        routed = policy_router.read_router(file, into.parent)
        _notes(routed.remarks)
        if routed.rules:
            changes = csv_files.merge(into, routed.rules)
            if changes.added and (changes.changed or changes.unchanged or changes.kept):
                text = "new rules are at its end: move them, as the first that matches decides"
                changes.remarks.append(f"{into}: {text}")
            _report(into, changes)
        if routed.targets:
            click.echo("requests went on to other servers; for the plugin upstream:\n")
            click.echo(policy_router.upstream_tables(routed), nl=False)
        if routed.faults:
            raise TableError(*(text for _, text in routed.faults))


@import_.command("infinity", epilog=_examples("import infinity --into rooms.csv"))
@config_option
@_into(default=Path("rooms.csv"), help="The new file: .csv or .toml.")
def from_infinity(config: Path, into: Path) -> None:
    """Rooms of Infinity, read once by the Management API that [infinity] source names.

    The file is for the plugin rooms (csv or files), and is not replaced. PINs are included.
    """
    with _errors_reported():
        rooms, remarks = infinity_rooms.import_rooms(config, into)
        _notes(remarks)
        click.echo(f"{into}: {count(rooms, 'room')}")


@click.group("export", epilog=_examples("export rooms config.toml > rooms.csv"))
def export() -> None:
    """Write parts of the configuration in another format."""


@export.command("rules", epilog=_examples("export rules rules.toml > rules.csv"))
@click.argument("file", type=_FILE)
def export_rules(file: Path) -> None:
    """The rules of a rule FILE, or of a configuration, as CSV on standard output."""
    with _errors_reported():
        found, remarks = csv_files.rules_to_export(file)
        click.echo(csv_files.to_csv(found), nl=False)
        _notes(remarks)


@export.command("rooms", epilog=_examples("export rooms config.toml > rooms.csv"))
@click.argument("file", type=_FILE)
def export_rooms(file: Path) -> None:
    """The rooms of a configuration, or of a FILE of rooms, as CSV on standard output.

    The plugin rooms reads it (csv = "rooms.csv"). PINs are included.
    """
    with _errors_reported():
        text, remarks = csv_files.rooms_to_export(file)
        click.echo(text, nl=False)
        _notes(remarks)


@contextmanager
def _errors_reported() -> Iterator[None]:
    """Print all errors and exit with ``EX_DATAERR``."""
    try:
        yield
    except (TableError, ImportFailed) as error:
        for line in error.problems if isinstance(error, TableError) else [error]:
            click.secho(printable_lines(line), fg="red", err=True)
        sys.exit(EX_DATAERR)


def _report(into: Path, changes: MergeSummary, remarks: Iterable[str] = ()) -> None:
    _notes([*remarks, *changes.remarks])
    click.echo(f"{into}: {changes}")


def _notes(remarks: Iterable[str]) -> None:
    for remark in remarks:
        click.secho(printable_lines(f"note: {remark}"), fg="yellow", err=True)
