"""Command ``pexpolicy init``."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from string import Template
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pexpolicy.access.warnings import MIN_PASSWORD_LENGTH
from pexpolicy.cli.common import examples
from pexpolicy.config.credentials import PasswordHash
from pexpolicy.plugins.config_schema import config_schema
from pexpolicy.plugins.discovery import installed
from pexpolicy.subnets import SubnetError, read_subnet
from pexpolicy.text import printable

CONSOLE_PAGE = "https://github.com/pexpolicy/pexpolicy/blob/main/docs/deployment.md#the-console"
UNIT = "pexpolicy.service"
PRIVATE, PUBLIC = 0o600, 0o644
GROUP = "pexpolicy-config"
"""The group with which the unit reads its configuration."""
EXAMPLE_ROOMS = """\
aliases,name,pin,guest_pin,allow_guests
meet@example.com 2301,Example room,,,
board@example.com,Example board,{},{},true
"""
CERTIFICATE_DAYS = 397
"""Validity of a test certificate: the most that today's programs accept."""
_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
Files = dict[str, tuple[bytes, int, str]]
"""Content, mode and purpose of each file by its name."""


def networks(text: str) -> str:
    """Return subnets and addresses with commas between them; raise ``BadParameter``."""
    try:
        return ",".join(str(read_subnet(part)) for part in text.split(",") if part.strip())
    except SubnetError as error:
        raise click.BadParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the operator chose for a new configuration."""

    folder: Path
    nodes: tuple[str, ...]
    """Networks of the Conferencing Nodes; without them only this machine can connect."""
    user: str
    password: str
    host: str
    """The host name for which a certificate is made; without it there is no TLS."""
    systemd: bool
    console: bool

    @property
    def audit(self) -> str:
        """The path of the audit log."""
        return "/var/log/pexpolicy/audit.jsonl" if self.systemd else "audit.jsonl"


@click.command(
    epilog=examples(
        "pexpolicy init",
        "pexpolicy init policy --yes --node 10.44.0.0/16",
        "pexpolicy init /etc/pexpolicy --systemd --test-certificate policy.example.com",
    )
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: take the default of each option.")
@click.option("--node", "nodes", type=networks, multiple=True, help="Network of the nodes.")
@click.option("--test-certificate", "host", metavar="HOST", help="Make a certificate for HOST.")
@click.option("--systemd", is_flag=True, help="Write a systemd unit.")
@click.option("--console", is_flag=True, help="Configure the web console of pexpolicy-console.")
def init(
    folder: Path,
    nodes: tuple[str, ...],
    host: str | None,
    *,
    yes: bool,
    systemd: bool,
    console: bool,
) -> None:
    """Write a configuration with comments into FOLDER, by default the current one.

    Asks for what is not given, and generates what is left empty. Existing files are never changed.
    """

    def ask(text: str, default: Any = "", **options: Any) -> Any:
        return default if yes else click.prompt(text, default, **options)

    try:
        if not nodes:
            text = "Networks of the Conferencing Nodes, such as 10.44.0.0/16 (empty: none)"
            nodes = (ask(text, type=networks, show_default=False),)
        user = ask("User name in Infinity's policy profile", "pexip")
        password = ask("Password (empty: generate one)", hide_input=True, show_default=False)
        if host is None:
            text = "Host name for which to make a test certificate (empty: no TLS)"
            host = ask(text, show_default=False)
        systemd = systemd or ask("Write a systemd unit", default=False, type=bool)
        if _has_console():
            console = console or ask("Configure the web console", default=False, type=bool)
        elif console:
            raise click.UsageError("the console is not installed: pip install pexpolicy-console")
    except click.Abort:
        click.echo(err=True)
        raise click.ClickException("no answer, nothing was written; --yes asks nothing") from None
    found_nodes = tuple(one for text in nodes for one in text.split(",") if one)
    made = password or secrets.token_urlsafe(18)
    answers = Answers(folder, found_nodes, user, made, host or "", systemd, console)
    for is_wrong, text in _mistakes(answers):
        if is_wrong:
            raise click.UsageError(text)
    found = _contents(answers)
    _write(answers, found)
    click.echo(f"Written to {printable(folder.absolute())}:")
    width = max(map(len, found))
    for name, (_, mode, purpose) in found.items():
        click.echo(f"  {name:<{width}}  {mode:04o}  {purpose}")
    _print_next(answers, "as you entered it" if password else f"{made}  (not shown again)")


def _has_console() -> bool:
    return any(metadata.distributions(name="pexpolicy-console"))


def _mistakes(answers: Answers) -> Iterator[tuple[bool, str]]:
    """Yield what may be wrong with the answers, each with whether it is."""
    folder, host, user = answers.folder.absolute(), answers.host, answers.user
    text = f"{folder.name} would be a folder, and config.toml is written into it"
    yield folder.suffix == ".toml", text
    text = f"{str(folder)!r} has control characters, or is not UTF-8: choose another name"
    yield not str(folder).isprintable(), text
    text = f"{folder} is in a home folder, which a service cannot read: choose another"
    yield answers.systemd and _in_home(folder), text
    is_host = not host or _address(host) or re.fullmatch(r"[\w.-]{1,253}", host, re.ASCII)
    yield not is_host, f"{host!r} is not a host name: write policy.example.com"
    text = "the user name must not contain a colon or control characters"
    yield ":" in user or not user.isprintable(), text
    is_good = len(answers.password) >= MIN_PASSWORD_LENGTH and answers.password.isprintable()
    yield not is_good, f"the password needs {MIN_PASSWORD_LENGTH} characters or more, on one line"


def _in_home(path: Path) -> bool:
    """Return whether ``ProtectHome`` of the unit hides a path from the service."""
    return any(path.resolve().is_relative_to(home) for home in ("/home", "/root", "/run/user"))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


# ---- files


def _contents(answers: Answers) -> Files:
    schema = json.dumps(config_schema(installed()), indent=1, ensure_ascii=False) + "\n"
    text = "its schema, for completion in an editor"
    found = {
        "config.toml": (_config_text(answers).encode(), PRIVATE, "the configuration"),
        "config.schema.json": (schema.encode(), PUBLIC, text),
    }
    if "rooms" in installed() and not (answers.folder / "rooms.csv").exists():
        pins = (100_000 + secrets.randbelow(900_000) for _ in range(2))
        rooms = EXAMPLE_ROOMS.format(*pins)
        found["rooms.csv"] = (rooms.encode(), PRIVATE, "the rooms: two examples")
    if answers.host:
        found |= certificate_files(answers.host)
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found["audit-key.pem"] = (_pem(key), PRIVATE, "the key that signs the audit")
    text = "its public key: keep a copy on another machine"
    found["audit-public.pem"] = (public, PUBLIC, text)
    if answers.systemd:
        found[UNIT] = (_unit(answers).encode(), PUBLIC, "the systemd unit")
    return found


def _config_text(answers: Answers) -> str:
    """Return the template with the answers; tables that are not wanted are comments."""
    values = {
        "host": "0.0.0.0" if answers.nodes else "127.0.0.1",  # noqa: S104 - [access] lists the nodes
        "user": answers.user,
        "password_hash": str(PasswordHash.create(answers.password)),
        "networks": list(dict.fromkeys((*answers.nodes, "127.0.0.1/32"))),
        "audit": answers.audit,
        "console_folder": "/var/lib/pexpolicy-console" if answers.systemd else "console-data",
    }
    shown = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    shown["console_command"] = f"pexpolicy console {'' if answers.systemd else '--'}login"
    wanted = {
        "access": bool(answers.nodes),
        "tls": bool(answers.host),
        "console": answers.console,
        "plugins": "rooms" in installed(),
    }
    lines, is_wanted = [], True
    for line in Template(_template("config.toml")).substitute(shown).splitlines():
        if found := re.match(r"\[(\w+)", line):
            is_wanted = wanted.get(found[1], True)
        lines.append(line if is_wanted or not line or line.startswith("#") else f"# {line}")
    return "\n".join(lines) + "\n"


def _template(name: str) -> str:
    return files("pexpolicy.cli").joinpath("template", "init", name).read_text(encoding="utf-8")


def _unit(answers: Answers) -> str:
    """Return the unit of this installation; the group replaces the credential."""
    # A single file names itself; its interpreter is in a cache.
    program = os.environ.get("PEX") or Path(sys.executable).with_name("pexpolicy")
    config = str(answers.folder.absolute() / "config.toml").replace("$", "$$")
    text = _template(UNIT).replace("/opt/pexpolicy/bin/pexpolicy", _word(str(program)))
    text = text.replace("/etc/pexpolicy/config.toml", _word(config))
    before, _, rest = text.partition("# Read by systemd as root")
    _, _, after = rest.partition("\nLoadCredential=password:/etc/pexpolicy/password\n")
    group = f"# May read the configuration, the rooms and the keys.\nSupplementaryGroups={GROUP}\n"
    # The mode that the printed commands give the folder.
    folder = "ConfigurationDirectory=pexpolicy\n"
    after = after.replace(folder, f"{folder}ConfigurationDirectoryMode=0750\n")
    return before + group + after


def _word(text: str) -> str:
    """Return a path as one word of a command of systemd."""
    text = text.replace("%", "%%")
    return text if shlex.quote(text) == text else json.dumps(text, ensure_ascii=False)


def certificate_files(host: str) -> Files:
    """Return a certificate for tests, and the CA that signed it, whose key is not kept."""
    # An hour of tolerance for the clocks of the nodes.
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])
        for text in ("pexpolicy test CA", host)
    )

    def signed(subject: x509.Name, of: Any, usages: set[str], *more: x509.ExtensionType) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=CERTIFICATE_DAYS))
            .add_extension(x509.KeyUsage(*(one in usages for one in _KEY_USAGES)), critical=True)
        )
        for extension in more:
            is_critical = isinstance(extension, x509.BasicConstraints)
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    names = dict.fromkeys((host, "localhost", "127.0.0.1"))
    certificate = signed(
        name,
        key,
        {"digital_signature"},
        x509.BasicConstraints(ca=False, path_length=None),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName(
            x509.IPAddress(found) if (found := _address(one)) else x509.DNSName(one)
            for one in names
        ),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
    )
    authority = signed(
        issuer,
        ca_key,
        {"key_cert_sign", "crl_sign"},
        x509.BasicConstraints(ca=True, path_length=0),
        x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()),
    )
    return {
        "tls/key.pem": (_pem(key), PRIVATE, "the private key"),
        "tls/certificate.pem": (certificate, PUBLIC, "the certificate"),
        "tls/ca.pem": (authority, PUBLIC, "the CA that the nodes must trust"),
    }


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(answers: Answers, found: Files) -> None:
    """Write all files or none."""
    folder = answers.folder
    if taken := [name for name in found if os.path.lexists(folder / name)]:
        text = f"{', '.join(taken)} in {folder} exists already, nothing was written"
        raise click.ClickException(f"{text}. Choose another: pexpolicy init FOLDER")
    made: list[Path] = []
    try:
        for name, (content, mode, _) in found.items():
            path = folder / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                # The mode of open() is reduced by the umask.
                os.fchmod(descriptor, mode)
                file.write(content)
    except OSError as error:
        # The password of a configuration that is only half there was never shown.
        for path in made:
            path.unlink()
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    # The unit would make it too, but check warns until it exists.
    with suppress(OSError):
        (folder / answers.audit).parent.mkdir(mode=0o750, parents=True, exist_ok=True)


# ---- what to do next


def _print_next(answers: Answers, password: str) -> None:
    """Print what to enter in Infinity, and the next commands."""
    host, path = answers.host, answers.folder.absolute()
    shown = f"[{host}]" if ":" in host else host or "HOST"
    folder, program = shlex.quote(str(path)), Path(sys.executable).with_name("pexpolicy")
    lines = [
        "\nIn Infinity, Call control > Policy profiles:",
        f"  URL        {'https' if host else 'http'}://{shown}:8000",
        f"  User name  {answers.user}",
        f"  Password   {password}",
    ]
    if host:
        lines.append("In Infinity, Certificates > Trusted CA certificates: import tls/ca.pem")
    lines.append("\nNext:")
    if answers.systemd:
        lines += [
            f"  sudo groupadd --system --force {GROUP}",
            f"  sudo chown -R root:{GROUP} {folder}",
            f"  sudo chmod -R g+rX,o= {folder}",
            f"  sudo install -m 0644 {folder}/{UNIT} /etc/systemd/system/",
            "  sudo systemctl enable --now pexpolicy",
            f"  sudo {program} doctor -c {folder}/config.toml",
        ]
        if answers.console:
            text = "The console is a service of its own, not to be run as root:"
            lines.append(f"\n{text} {CONSOLE_PAGE}")
        if _in_home(program):
            text = f"The unit cannot start {program}, as it reads no home folder: install it in "
            click.secho(f"\n{text}/opt.", fg="yellow", err=True)
    else:
        config = "" if path == Path.cwd() else f" -c {folder}/config.toml"
        commands = ["doctor", "serve", *["console --login"] * answers.console]
        lines += [f"  pexpolicy {command}{config}" for command in commands]
    click.echo("\n".join(lines))
