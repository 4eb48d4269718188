"""Command ``pexpolicy init``."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pexpolicy.cli.bundle import Files, key_pair, write_new
from pexpolicy.cli.common import examples, flag, repeatable
from pexpolicy.config.plugin_settings import zone_names
from pexpolicy.config.secrets import PasswordHash
from pexpolicy.models.subnets import SubnetError, read_subnet
from pexpolicy.plugins.discovery import config_schema, installed

USER = "pexip"
UNITS = {
    "pexpolicy.service": "the systemd unit",
    "pexpolicy-console.service": "that of the console",
    "pexpolicy-audit-ship.service": "that of one audit for several servers",
}
PEM = serialization.Encoding.PEM
PRIVATE, PUBLIC = 0o600, 0o644
GROUP = "pexpolicy-config"
"""The group with which the unit reads its configuration."""
CERTIFICATE_DAYS = 397
"""Validity of a test certificate: the most that today's programs accept."""
LOCALTIME = Path("/etc/localtime")
HIDDEN = ("/home", "/root", "/run/user")
"""Folders that ``ProtectHome`` of the unit hides from the service."""


class Answers(NamedTuple):
    """What the operator chose; without a host there is no TLS."""

    folder: Path
    nodes: tuple[str, ...]
    password: str
    host: str
    systemd: bool
    audit: str


def networks(text: str) -> list[str]:
    """Return subnets and addresses with commas between them; raise ``BadParameter``."""
    try:
        return [str(read_subnet(part)) for part in text.split(",") if part.strip()]
    except SubnetError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    epilog=examples(
        "pexpolicy init",
        "pexpolicy init policy --yes --node 10.44.0.0/16",
        "pexpolicy init /etc/pexpolicy --systemd --test-certificate policy.example.com",
    )
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@flag("--yes", "-y", help="Ask nothing: take the default of each option.")
@repeatable("--node", "nodes", type=networks, help="Network of the nodes.")
@click.option("--test-certificate", "host", metavar="HOST", help="Make a certificate for HOST.")
@flag("--systemd", help="Write a systemd unit.")
def init(
    folder: Path, nodes: tuple[list[str], ...], host: str | None, *, yes: bool, systemd: bool
) -> None:
    """Write a configuration with comments into FOLDER.

    FOLDER is the current one by default. Asks for what is not given, and generates what is left
    empty. Existing files are never changed.
    """

    def ask(text: str, default: Any = "", **options: Any) -> Any:
        return default if yes else click.prompt(text, default, **options)

    try:
        if not nodes:
            text = "Networks of the Conferencing Nodes, such as 10.44.0.0/16 (empty: none)"
            nodes = (ask(text, type=networks, show_default=False) or [],)
        if host is None:
            text = "Host name for which to make a test certificate (empty: no TLS)"
            host = str(ask(text, show_default=False))
        systemd = systemd or ask("Write a systemd unit", default=False, type=bool)
    except click.Abort:
        raise click.ClickException("no answer, nothing was written; --yes asks nothing") from None
    path = folder.absolute()
    if path.suffix == ".toml" or not str(path).isprintable():
        raise click.UsageError(f"{str(path)!r} is not the name of a folder: choose another")
    if systemd and any(path.resolve().is_relative_to(home) for home in HIDDEN):
        text = f"{path} is in a home folder, which a service cannot read: choose another"
        raise click.UsageError(text)
    if host and not _address(host) and not re.fullmatch(r"[\w.-]{1,253}", host, re.ASCII):
        raise click.UsageError(f"{host!r} is not a host name: write policy.example.com")
    password = secrets.token_urlsafe(18)
    audit = "/var/log/pexpolicy/audit.jsonl" if systemd else "audit.jsonl"
    answers = Answers(path, tuple(chain.from_iterable(nodes)), password, host, systemd, audit)
    found = _contents(answers)
    try:
        write_new(path, found)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}; nothing was written"
        raise click.ClickException(text) from None
    # The unit would make it too, but check warns until it exists.
    with suppress(OSError):
        (path / audit).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    _print_next(answers)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(host)
    return None


def _contents(answers: Answers) -> Files:
    schema = json.dumps(config_schema(installed()), indent=1, ensure_ascii=False) + "\n"
    found = {
        "config.toml": (_config_text(answers).encode(), PRIVATE, "the configuration"),
        "config.schema.json": (schema.encode(), PUBLIC, "its schema, for an editor"),
    }
    if "rooms" in installed() and not (answers.folder / "rooms.csv").exists():
        pins = {name: 100_000 + secrets.randbelow(900_000) for name in ("pin", "guest_pin")}
        rooms = Template(_template("rooms.csv")).substitute(pins)
        found["rooms.csv"] = (rooms.encode(), PRIVATE, "the rooms: two examples")
    if answers.host:
        found |= certificate_files(answers.host)
    private, public = key_pair()
    found["audit-key.pem"] = (private, PRIVATE, "the key that signs the audit")
    found["audit-public.pem"] = (public, PUBLIC, "its public key: keep a copy elsewhere")
    if answers.systemd:
        config = str(answers.folder / "config.toml").replace("$", "$$")
        for name, purpose in UNITS.items():
            unit = _template(name).replace("/opt/pexpolicy/bin/pexpolicy", _word(_program()))
            unit = unit.replace("/etc/pexpolicy/config.toml", _word(config))
            found[name] = (unit.encode(), PUBLIC, purpose)
    return found


def _config_text(answers: Answers) -> str:
    """Return the template with the answers; tables that are not wanted are comments."""
    values = {
        "host": "0.0.0.0" if answers.nodes else "127.0.0.1",  # noqa: S104 - [access] lists the nodes
        "user": USER,
        "password_hash": str(PasswordHash.create(answers.password)),
        "networks": list(dict.fromkeys((*answers.nodes, "127.0.0.1/32"))),
        "audit": answers.audit,
        "zone": _zone(),
    }
    shown = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    wanted = {"access": answers.nodes, "tls": answers.host, "plugins": "rooms" in installed()}
    lines, is_wanted = [], True
    for line in Template(_template("config.toml")).substitute(shown).splitlines():
        if found := re.match(r"\[(\w+)", line):
            is_wanted = bool(wanted.get(found[1], True))
        lines.append(line if is_wanted or not line or line.startswith("#") else f"# {line}")
    return "\n".join(lines) + "\n"


def _zone() -> str:
    """Return the time zone of this machine, or UTC if its name is unknown."""
    names = [os.environ.get("TZ", "").removeprefix(":")]
    with suppress(OSError):  # a copy, or none
        names.append(str(LOCALTIME.readlink()).partition("zoneinfo/")[2])
    return next(filter(zone_names().__contains__, names), "UTC")


def _template(name: str) -> str:
    return files("pexpolicy.cli").joinpath("template", "init", name).read_text(encoding="utf-8")


def _program() -> str:
    # A single file names itself; its interpreter is in a cache. A link to the installed version
    # stays one, so that an upgrade only changes the link.
    called = Path(sys.argv[0]).absolute()
    if called.name != "pexpolicy":
        called = Path(sys.executable).with_name("pexpolicy")
    return os.environ.get("PEX") or str(called)


def _word(text: str) -> str:
    """Return a path as one word of a command of systemd."""
    text = text.replace("%", "%%")
    return text if shlex.quote(text) == text else json.dumps(text, ensure_ascii=False)


def certificate_files(host: str) -> Files:
    """Return a certificate for tests, and the CA that signed it, whose key is not kept."""
    # An hour of tolerance for the clocks of the nodes.
    begin = datetime.now(UTC) - timedelta(hours=1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])
        for text in ("pexpolicy test CA", host)
    )

    def signed(subject: x509.Name, of: Any, *extensions: x509.ExtensionType) -> bytes:
        builder = (
            x509.CertificateBuilder(issuer, subject, of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=CERTIFICATE_DAYS))
        )
        for extension in extensions:
            is_critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(PEM)

    certificate = signed(
        name,
        key,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName(
            x509.IPAddress(found) if (found := _address(one)) else x509.DNSName(one)
            for one in dict.fromkeys((host, "localhost", "127.0.0.1"))
        ),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
    )
    authority = signed(
        issuer,
        ca_key,
        x509.BasicConstraints(ca=True, path_length=0),
        x509.KeyUsage(*(bit in (5, 6) for bit in range(9))),  # keyCertSign and cRLSign
        x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()),
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(PEM, form, serialization.NoEncryption())
    return {
        "tls/key.pem": (private, PRIVATE, "the private key"),
        "tls/certificate.pem": (certificate, PUBLIC, "the certificate"),
        "tls/ca.pem": (authority, PUBLIC, "the CA that the nodes must trust"),
    }


def _print_next(answers: Answers) -> None:
    """Print what to enter in Infinity, and the next commands."""
    host, folder = answers.host, shlex.quote(str(answers.folder))
    shown = f"[{host}]" if ":" in host else host or "HOST"
    lines = [
        "\nIn Infinity, Call control > Policy profiles:",
        f"  URL        {'https' if host else 'http'}://{shown}:8000",
        f"  User name  {USER}",
        f"  Password   {answers.password}  (not shown again)",
    ]
    if host:
        lines.append("In Infinity, Certificates > Trusted CA certificates: import tls/ca.pem")
    lines.append("\nNext:")
    if answers.systemd:
        lines += [
            f"  sudo groupadd --system --force {GROUP}",
            f"  sudo chown -R root:{GROUP} {folder}",
            f"  sudo chmod -R g+rX,o= {folder}",
            f"  sudo install -m 0644 {folder}/pexpolicy.service /etc/systemd/system/",
            "  sudo systemctl enable --now pexpolicy",
            f"  sudo {_program()} doctor -c {folder}/config.toml",
        ]
    else:
        lines += [f"  pexpolicy {name} -c {folder}/config.toml" for name in ("doctor", "serve")]
    click.echo("\n".join(lines))
