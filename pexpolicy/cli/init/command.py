"""``pexpolicy init``: questions, and what to do next."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from pexpolicy.cli.examples import examples
from pexpolicy.cli.init.choices import Choices
from pexpolicy.cli.init.files import GROUP, UNIT, TakenError, contents, write
from pexpolicy.cli.init.questions import Answers, Networks, Questions, in_home
from pexpolicy.text import printable

CONSOLE_PAGE = "https://github.com/pexpolicy/pexpolicy/blob/main/docs/deployment.md#the-console"


@click.command(
    epilog=examples(
        "pexpolicy init",
        "pexpolicy init policy --yes --node 10.44.0.0/16",
        "pexpolicy init /etc/pexpolicy --systemd --test-certificate policy.example.com",
    )
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: take the default of each option.")
@click.option("--node", "nodes", type=Networks(), multiple=True, help="Network of the nodes.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--user", help="User name in Infinity's policy profile.  [default: pexip]")
@click.option(
    "--password-file",
    type=click.File(),
    help="File with the password, - for standard input.  [default: generate one]",
)
@click.option("--no-password", is_flag=True, help="Answer this machine without a password.")
@click.option("--certificate", metavar="FILE", help="Certificate with its chain, in PEM.")
@click.option("--key", metavar="FILE", help="Private key of the certificate.")
@click.option("--test-certificate", "host", metavar="HOST", help="Make a certificate for HOST.")
@click.option("--rooms", metavar="FILE", help="CSV file of the rooms.  [default: rooms.csv]")
@click.option("--no-rooms", is_flag=True, help="Activate no plugin.")
@click.option("--audit", metavar="FILE", help="Audit log.  [default: audit.jsonl]")
@click.option("--no-audit", is_flag=True, help="Write the audit to standard output.")
@click.option("--sign/--no-sign", "signs", default=None, help="Sign the audit.  [default: sign]")
@click.option("--systemd/--no-systemd", default=None, help="Write a unit.  [default: no]")
@click.option(
    "--console/--no-console",
    default=None,
    help="Configure the web console of pexpolicy-console.  [default: no]",
)
def init(folder: Path, *, yes: bool, **options: Any) -> None:
    """Write a configuration with comments into FOLDER, by default the current one.

    Asks for what is not given. Existing files are never changed. Names of FILEs are relative to
    FOLDER.
    """
    try:
        answers = Questions(options, asks=not yes).answers(folder)
    except click.Abort:
        click.echo(err=True)
        raise click.ClickException("no answer, nothing was written; --yes asks nothing") from None
    found = contents(answers.choices, answers.host)
    try:
        write(answers.choices, found)
    except TakenError as error:
        text = f"{error} exists already, nothing was written. Choose another: pexpolicy init FOLDER"
        raise click.ClickException(text) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    _report(answers.choices, {name: (mode, text) for name, (_, mode, text) in found.items()})
    _profile(answers)
    _next_steps(answers.choices)


def _report(choices: Choices, found: dict[str, tuple[int, str]]) -> None:
    click.echo(f"Written to {printable(str(choices.folder.absolute()))}:")
    width = max(map(len, found))
    for name, (mode, text) in found.items():
        click.echo(f"  {printable(name):<{width}}  {mode:04o}  {text}")


def _profile(answers: Answers) -> None:
    """Print what to enter in Infinity."""
    choices, host, password = answers.choices, answers.host, answers.generated_password
    click.echo("\nIn Infinity, Call control > Policy profiles:")
    shown_host = f"[{host}]" if host and ":" in host else host or "HOST"
    click.echo(f"  URL        {choices.scheme}://{shown_host}:{choices.port}")
    if choices.user is not None:
        click.echo(f"  User name  {choices.user}")
        shown = f"{password}  (not shown again)" if password else "as you entered it"
        click.echo(f"  Password   {shown}")
    if host is not None:
        click.echo("In Infinity, Certificates > Trusted CA certificates: import tls/ca.pem")


def _next_steps(choices: Choices) -> None:
    folder = shlex.quote(str(choices.folder.absolute()))
    config = "" if choices.folder.absolute() == Path.cwd() else f" -c {folder}/config.toml"
    program = Path(sys.executable).with_name("pexpolicy")
    steps = []
    if choices.systemd:
        steps += [
            f"sudo groupadd --system --force {GROUP}",
            f"sudo chown -R root:{GROUP} {folder}",
            f"sudo chmod -R g+rX,o= {folder}",
            f"sudo install -m 0644 {folder}/{UNIT} /etc/systemd/system/",
            "sudo systemctl enable --now pexpolicy",
            f"sudo {program} doctor -c {folder}/config.toml",
        ]
    else:
        steps += [f"pexpolicy doctor{config}", f"pexpolicy serve{config}"]
    if choices.console and not choices.systemd:
        steps.append(f"pexpolicy console --login{config}")
    if choices.systemd and in_home(program):
        text = f"The unit cannot start {program}, as it reads no home folder: install it in /opt."
        click.secho(f"\n{text}", fg="yellow", err=True)
    click.echo("\nNext:")
    for step in steps:
        click.echo(f"  {step}")
    for name in filter(None, (choices.certificate, choices.key)):
        if not (choices.folder / name).exists():
            text = f"{choices.folder / name} is not there yet: copy it before the start"
            click.secho(text, fg="yellow", err=True)
    if choices.console and choices.systemd:
        click.echo(f"\nThe console is a service of its own, not to be run as root: {CONSOLE_PAGE}")
