"""Commands of installed packages."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import forked

PACKAGES = {
    "acme-tools": {
        "summary": "Reports for Acme.",
        "commands": {
            "report": "acme_report:report",
            "gone": "acme_missing:gone",
            "raises": "acme_raises:command",
            "exits": "acme_exits:command",
            "number": "acme_report:NUMBER",
            "check": "acme_report:report",
        },
    },
    "other-tools": {"summary": "", "commands": {"plain": "x:y"}},
}
MODULES = {
    "acme_report": """
import sys
import click

print("imported", file=sys.stderr)
NUMBER = 7

@click.command()
@click.argument("name")
def report(name):
    "Report NAME."
    click.echo(f"report of {name}")
""",
    "acme_raises": "raise LookupError('no licence [/red]')",
    "acme_exits": "raise SystemExit(3)",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with these packages, as an installation leaves them."""
    folder = tmp_path_factory.mktemp("site")
    for name, package in PACKAGES.items():
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        summary = f"Summary: {package['summary']}\n" if package["summary"] else ""
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{summary}"
        )
        lines = [f"{command} = {target}\n" for command, target in package["commands"].items()]  # type: ignore[attr-defined]
        (info / "entry_points.txt").write_text(f"[pexpolicy.commands]\n{''.join(lines)}")
    for module, source in MODULES.items():
        (folder / f"{module}.py").write_text(source)
    return folder


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
    return forked.run(*arguments, env=environment)


def test_a_command_of_a_package_runs_with_its_arguments(site: Path) -> None:
    result = run(site, "report", "sales")
    assert (result.returncode, result.stdout) == (0, "report of sales\n")
    assert "Report NAME." in run(site, "report", "--help").stdout


def test_the_list_names_the_packages_and_imports_nothing(site: Path) -> None:
    result = run(site, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    shown = " ".join(result.stdout.split())
    assert "report Reports for Acme. (acme-tools)" in shown
    assert "plain A command of other-tools." in shown
    assert "check Check a configuration" in shown


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("gone", "ModuleNotFoundError: No module named 'acme_missing'"),
        ("raises --help", "LookupError: no licence [/red] (acme_raises.py:1)"),
        ("exits a --b -c", "SystemExit: 3 (acme_exits.py:1)"),
        ("number", "acme_report:NUMBER is not a click command"),
    ],
)
def test_a_broken_command_fails_with_its_package_and_the_reason(
    site: Path, line: str, reason: str
) -> None:
    name, *arguments = line.split()
    result = run(site, name, *arguments)
    assert result.returncode == 1
    assert result.stderr.removeprefix("imported\n").startswith(
        f"Error: the command {name!r} of acme-tools cannot be used: {reason}"
    )


def test_our_own_commands_cannot_be_replaced(site: Path) -> None:
    result = run(site, "check", "--help")
    assert "Check a configuration and its plugins" in result.stdout
    assert "imported" not in result.stderr


def test_a_misspelt_command_of_a_package_is_suggested(site: Path) -> None:
    assert "did you mean 'report'?" in run(site, "reprot").stderr
