"""``pexpolicy import`` and ``pexpolicy export``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pexpolicy.cli.importers import django_policy, policy_router, rules_csv
from pexpolicy.cli.importers.toml_merge import ImportFailed, MergeSummary
from pexpolicy.config.csv_tables import TableError

EX_DATAERR = 65
"""Exit code of a file that cannot be brought in (sysexits.h)."""
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_TARGET = click.Path(path_type=Path, dir_okay=False)

rule_file = click.option(
    "--into", type=_TARGET, default=Path("rules.toml"), show_default=True, help="The rule file."
)
config_file = click.option(
    "--into",
    type=_TARGET,
    default=Path("config.toml"),
    show_default=True,
    help="The configuration.",
)
variable = click.option("--name", default="", help="The variable, where there are several.")


@click.group("import")
def import_() -> None:
    """Bring rules, rooms or domains in; what is there already is updated, and comments stay."""


@import_.command()
@click.argument("file", type=_FILE)
@rule_file
def rules(file: Path, into: Path) -> None:
    """Rules from a CSV FILE, such as ``pexpolicy export rules`` writes."""
    with _told():
        brought, rows = rules_csv.read_csv(file)
        wrong = rules_csv.refused(brought, into.parent)
        if wrong:
            raise TableError([rows[number].fault(text) for number, text in wrong])
        _report(into, rules_csv.merge(into, brought))


@import_.command()
@click.argument("file", type=_FILE)
@config_file
@variable
def rooms(file: Path, into: Path, name: str) -> None:
    """Rooms from a dictionary in a Python FILE, which is read and not executed."""
    with _told():
        found = django_policy.find_rooms(file, name)
        _report(into, django_policy.merge_rooms(into, found.values), found.remarks)


@import_.command()
@click.argument("file", type=_FILE)
@config_file
@variable
def domains(file: Path, into: Path, name: str) -> None:
    """Domains that may register from a list in a Python FILE, which is read and not executed."""
    with _told():
        found = django_policy.find_domains(file, name)
        _report(into, django_policy.merge_domains(into, found.values), found.remarks)


@import_.command("router")
@click.argument("file", type=_FILE)
@rule_file
def from_router(file: Path, into: Path) -> None:
    """Rules from the CSV FILE of a server that routed requests by regular expressions."""
    with _told():
        routed = policy_router.read_router(file, into.parent)
        _remark(routed.remarks)
        if routed.rules:
            _report(into, rules_csv.merge(into, routed.rules, routed.comments))
            names = [str(rule.get("name")) for rule in rules_csv.rules_in(into)]
            if first := policy_router.misplaced(routed, names):
                text = "the order of the rules is not that of the router any more, from "
                _remark(
                    [f"{into}: {text}{first!r} on: move them, as the first that matches decides"]
                )
        if routed.targets:
            click.echo("requests went on to other servers; for the plugin upstream:\n")
            click.echo(policy_router.advice(routed), nl=False)
        if routed.faults:
            raise TableError(routed.faults)


@click.group("export")
def export() -> None:
    """Write what is configured in another form."""


@export.command("rules")
@click.argument("file", type=_FILE)
def export_rules(file: Path) -> None:
    """The rules of a rule FILE, or of a configuration, as CSV on standard output."""
    with _told():
        found, remarks = rules_csv.rules_to_export(file)
        click.echo(rules_csv.to_csv(found), nl=False)
        _remark(remarks)


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong, all of it, and leave."""
    try:
        yield
    except TableError as error:
        _fail(str(fault) for fault in error.faults)
    except ImportFailed as error:
        _fail([str(error)])


def _fail(lines: Iterable[str]) -> None:
    for line in lines:
        click.secho(line, fg="red", err=True)
    sys.exit(EX_DATAERR)


def _report(into: Path, changes: MergeSummary, remarks: Iterable[str] = ()) -> None:
    _remark(remarks)
    click.echo(f"{into}: {changes}")


def _remark(remarks: Iterable[str]) -> None:
    for remark in remarks:
        click.secho(f"note: {remark}", fg="yellow", err=True)
