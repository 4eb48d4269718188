"""The questions of ``pexpolicy init``, and the defaults of their answers."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import click

from pexpolicy.access.warnings import MIN_PASSWORD_LENGTH
from pexpolicy.cli.init.choices import LOG_FILE, Choices
from pexpolicy.cli.init.config_text import ADMIN_PORT
from pexpolicy.cli.init.files import NAMES
from pexpolicy.config.password_hash import PasswordHash
from pexpolicy.plugins.discovery import installed
from pexpolicy.subnets import SubnetError, read_subnet

Options = Mapping[str, Any]
_WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")
_HOST_NAME = re.compile(r"[\w.-]{1,253}", re.ASCII)


class Networks(click.ParamType[str]):
    """Subnets and addresses with commas between them."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; fail for anything else."""
        try:
            parts = [str(read_subnet(part)) for part in str(value).split(",") if part.strip()]
        except SubnetError as error:
            self.fail(str(error), param, ctx)
        return ",".join(parts)


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers; ``host`` is the name for which a certificate is made."""

    choices: Choices
    host: str | None
    generated_password: str


class Questions:
    """Asks for what the options do not say, or takes the defaults."""

    def __init__(self, options: Options, *, asks: bool) -> None:
        self._options = options
        self._asks = asks

    def answers(self, folder: Path) -> Answers:
        """Return all answers; raises ``click.UsageError`` for options that contradict others."""
        options = self._options
        _refuse_contradictions(options)
        nodes = self._nodes()
        user, password, is_new = self._credentials()
        certificate, key, host = self._tls()
        rooms = None
        if not options["no_rooms"]:
            rooms = options["rooms"] or self._ask("Spreadsheet of the rooms (CSV)", "rooms.csv")
        systemd = self._confirm("systemd", "Write a systemd unit", default=False)
        audit = None
        if not options["no_audit"]:
            audit = options["audit"] or self._ask(
                "Audit log", LOG_FILE if systemd else "audit.jsonl"
            )
        text = "Sign the audit log, so that changed lines are detected"
        choices = Choices(
            folder=folder,
            port=options["port"],
            nodes=nodes,
            user=user,
            password_hash=PasswordHash.create(password) if password else None,
            certificate=certificate,
            key=key,
            rooms=rooms if "rooms" in installed() else None,
            audit=audit,
            signs=self._confirm("signs", text, default=True),
            systemd=systemd,
            console=self._console(audit),
        )
        _refuse_names(choices)
        return Answers(choices, host, password if is_new else "")

    def _console(self, audit: str | None) -> bool | None:
        """Return whether to configure the console; ``None`` if its package is not installed."""
        if not _has_console():
            if self._options["console"]:
                _refuse("the console is not installed: pip install pexpolicy-console")
            return None
        if audit is None:
            if self._options["console"]:
                _refuse("the console reads the audit file: leave --no-audit out")
            return False
        return self._confirm("console", "Configure the web console", default=False)

    def _ask(self, text: str, default: str, **more: Any) -> str:
        return str(click.prompt(text, default, **more)) if self._asks else default

    def _confirm(self, option: str, text: str, *, default: bool) -> bool:
        given: bool | None = self._options[option]
        if given is not None:
            return given
        return click.confirm(text, default) if self._asks else default

    def _nodes(self) -> tuple[str, ...]:
        options = self._options
        texts = options["nodes"]
        if not texts and not options["no_password"]:
            text = (
                "Networks of the Conferencing Nodes, such as 10.44.0.0/16 "
                "(empty: this machine only)"
            )
            texts = (self._ask(text, "", type=Networks(), show_default=False),)
        return tuple(network for text in texts for network in text.split(",") if network)

    def _credentials(self) -> tuple[str | None, str, bool]:
        """Return user and password, and whether the password was generated."""
        options = self._options
        if options["no_password"]:
            return None, "", False
        user = options["user"] or self._ask("User name in Infinity's policy profile", "pexip")
        if ":" in user or not user.isprintable():
            _refuse("the user name must not contain a colon or control characters")
        if options["password_file"] is not None:
            try:
                password = options["password_file"].read().rstrip("\r\n")
            except UnicodeDecodeError:
                _refuse("the password file is not UTF-8 text")
        else:
            text = "Password (empty: generate one)"
            password = self._ask(text, "", hide_input=True, show_default=False)
            if not password:
                return user, secrets.token_urlsafe(18), True
        if len(password) < MIN_PASSWORD_LENGTH or not password.isprintable():
            _refuse(f"the password needs {MIN_PASSWORD_LENGTH} characters or more, on one line")
        return user, password, False

    def _tls(self) -> tuple[str | None, str | None, str | None]:
        """Return certificate and key, and the host for which to make them."""
        options = self._options
        if options["certificate"] is not None:
            return options["certificate"], options["key"], None
        host = options["host"]
        if host is None:
            text = "TLS: none, test (a certificate is made) or files (you have one)"
            kind = self._ask(text, "none", type=click.Choice(["none", "test", "files"]))
            if kind == "files":
                certificate = self._ask("Certificate with its chain", "tls/certificate.pem")
                return certificate, self._ask("Its private key", "tls/key.pem"), None
            if kind == "none":
                return None, None, None
            host = self._ask("Host name that the nodes call", "localhost")
        if not _is_host(host):
            _refuse(f"{host!r} is not a host name: write policy.example.com")
        return "tls/certificate.pem", "tls/key.pem", host


def _refuse_contradictions(options: Options) -> None:
    if (options["certificate"] is None) != (options["key"] is None):
        _refuse("--certificate and --key belong together: write both")
    if options["port"] == ADMIN_PORT:
        _refuse(f"{ADMIN_PORT} is the port of [admin]: choose another --port")
    if options["host"] is not None and options["certificate"] is not None:
        _refuse("write --test-certificate, or --certificate and --key, not both")
    if options["no_password"] and (options["user"] or options["password_file"]):
        _refuse("--no-password contradicts --user and --password-file")
    if options["no_password"] and options["nodes"]:
        _refuse("--no-password is for calls of this machine only: leave --node out")
    for name in ("rooms", "audit"):
        if options[f"no_{name}"] and options[name]:
            _refuse(f"--no-{name} contradicts --{name}")


def _refuse_names(choices: Choices) -> None:
    folder = choices.folder.absolute()
    if folder.suffix == ".toml":
        text = f"{folder.name} would be a folder, and config.toml is written into it"
        _refuse(f"{text}: name the folder alone")
    if choices.rooms is not None and Path(choices.rooms).suffix.lower() in _WORKBOOKS:
        _refuse(f"{choices.rooms} is no CSV file: save it as CSV, and write --rooms rooms.csv")
    if choices.audit is not None and choices.audit.endswith("/"):
        _refuse(f"{choices.audit} is a folder: write --audit {choices.audit}audit.jsonl")
    names = filter(None, (choices.rooms, choices.audit, choices.certificate, choices.key))
    for name in (str(folder), *names):
        if not name.isprintable():
            _refuse(f"{name!r} has control characters, or is not UTF-8: choose another name")
    if choices.systemd and in_home(folder):
        text = f"{folder} is in a home folder, which a service cannot read: choose another"
        _refuse(f"{text}, as in pexpolicy init /etc/pexpolicy --systemd")
    taken = {os.path.normpath(folder / name) for name in NAMES}
    for name in filter(None, (choices.rooms, choices.audit)):
        path = os.path.normpath(folder / name)
        if path in taken:
            _refuse(f"{name} is the name of another file that is written: choose another")
        taken.add(path)


def in_home(path: Path) -> bool:
    """Return whether ``ProtectHome`` of the unit hides a path from the service."""
    real = path.resolve()
    return any(real.is_relative_to(home) for home in ("/home", "/root", "/run/user"))


def _has_console() -> bool:
    try:
        metadata.version("pexpolicy-console")
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def _refuse(text: str) -> NoReturn:
    raise click.UsageError(text)
