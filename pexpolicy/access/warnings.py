"""Warnings of a configuration that opens a door, and problems of one that must not be served."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec

from pydantic import SecretStr

from pexpolicy.access.certificates import CertificateError, CertificateFiles, load
from pexpolicy.access.networks import overlap
from pexpolicy.config.outgoing import is_loopback
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy.config.schema.server import AdminTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import Settings
from pexpolicy.subnets import lone_network

MIN_KEY_LENGTH = 16
"""Recommended length of keys and tokens, in characters."""
MIN_PASSWORD_LENGTH = 8
"""Recommended length of passwords, whose guessing is throttled."""

TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""What the extra `tracing` installs."""


def access_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each setting that opens a door, and for a certificate that expires."""
    yield from _network_warnings(settings)
    console = settings.console
    if console.port == settings.server.port and "port" in console.model_fields_set:
        yield ConfigWarning(("console", "port"), "is already server.port; choose another")
    if text := console_exposure(console):
        yield ConfigWarning(("console", "host"), f"{text}; the console does not start without")
    yield from _secret_warnings(settings)
    if settings.tls is not None:
        try:
            loaded = load(CertificateFiles.of(settings.tls, settings.path.parent))
        except (CertificateError, SecretError):
            return  # an error of certificate_problems
        for key, text in loaded.warnings(datetime.now(UTC)):
            yield ConfigWarning(("tls", key), text)


def _network_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    access, auth, tls = settings.access, settings.credentials, settings.tls
    mutual = tls is not None and tls.client_ca is not None
    key, text = "networks", ""
    if access.networks and not auth and not mutual:
        text = "clients in these networks need no password; add [auth] unless that is intended"
    elif access.trusted_proxies and not access.networks:
        key = "trusted_proxies"
        text = "every address may connect; list those of the nodes under access.networks"
    elif not access.networks and "networks" in access.model_fields_set:
        text = "an empty list admits every address: list those of the nodes, or leave it out"
    elif not access.networks and not mutual and auth and not is_loopback(settings.server.host):
        text = 'every address may try passwords; list those of the nodes, as in ["10.44.0.0/16"]'
    if text:
        yield ConfigWarning(("access", key), text)
    for number, network in enumerate(access.networks):
        text = lone_network(network)
        if network in ("0.0.0.0/0", "::/0"):
            text = f"{network} is every address: list those of the nodes, or leave it out"
        if text:
            yield ConfigWarning(("access", "networks", number), text)


def console_exposure(console: ConsoleTable) -> str:
    """Return why passwords of the console would cross a network in clear, or nothing."""
    behind_tls = console.url is not None and console.url.startswith("https:")
    if console.tls or behind_tls or is_loopback(console.host):
        return ""
    return (
        f"{console.host} is reachable by others without TLS: write tls = true, or name the URL of "
        'the proxy that ends TLS, as in url = "https://console.example.com"'
    )


def _secret_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each secret that is easy to guess, or hardly the one that is meant."""
    advice = f"is shorter than {MIN_KEY_LENGTH} characters: make one with openssl rand -hex 32"
    for table, source, value in (
        ("privacy", settings.privacy.secret("key"), settings.privacy_key),
        ("admin", settings.admin.secret("token"), settings.admin_token),
    ):
        if value is not None and len(value) < MIN_KEY_LENGTH:
            yield ConfigWarning((table, source.key), f"the {source.name} {advice}")
    for credential in settings.credentials:
        if isinstance(credential.secret, SecretStr):
            password = credential.secret.get_secret_value()
            for pattern, text in _ODD_PASSWORDS.items():
                if re.fullmatch(pattern, password, re.DOTALL):
                    yield ConfigWarning(("auth",), f"the password of {credential.user} {text}")


_ODD_PASSWORDS = {
    r"""(["']).+\1""": "is in quotes, and they are part of it: an env_file of Docker keeps them",
    r"\s.*|.*\s": "has a blank at its start or end, which is part of it: remove it",
    r"[A-Z][A-Z0-9_]+=.*": "begins like a line of an env_file, NAME=: write the value alone",
    f".{{0,{MIN_PASSWORD_LENGTH - 1}}}": f"is shorter than {MIN_PASSWORD_LENGTH} characters",
}


def certificate_problems(settings: Settings) -> list[Problem]:
    """Return why the certificate of a configuration cannot be used."""
    if settings.tls is None:
        return []
    try:
        load(CertificateFiles.of(settings.tls, settings.path.parent))
    except (CertificateError, SecretError) as error:
        return [Problem(("tls", error.key), str(error))]
    return []


Ports = tuple[int | None, int | None]


def preflight_problems(
    settings: Settings,
    host: str | None = None,
    running_admin: AdminTable | None = None,
    ports: Ports = (None, None),
) -> list[Problem]:
    """Return why a server must not listen, such as PINs that are readable without a password.

    ``host`` is the address to listen on, by default the configured one. ``running_admin`` is the
    table with which the admin listener of a running server was started: it keeps its address and
    uses the new token. ``ports`` override the two configured ports.
    """
    problems = []
    address, admin, wrong = host or settings.server.host, settings.admin, settings.wrong
    reachable = "is reachable from other machines and there is no"
    # A table that could not be read is reported as an error of its own.
    is_open = not settings.credentials and not settings.server.allow_anonymous
    if is_open and "auth" not in wrong and not is_loopback(address):
        text = "[auth]; add it, or set allow_anonymous = true to allow calls without a password"
        problems.append(Problem(("server", "host"), f"{address} {reachable} {text}"))
    tables = [admin] if running_admin is None else [running_admin, admin]
    exposed = [table.host for table in tables if table.enabled and not is_loopback(table.host)]
    if exposed and settings.admin_token is None and "admin" not in wrong:
        text = f"{exposed[0]} {reachable} token; add token_env or token_file"
        problems.append(Problem(("admin", "host"), text))
    port = settings.server.port if ports[0] is None else ports[0]
    is_taken = port == (admin.port if ports[1] is None else ports[1]) != 0
    if (
        is_taken
        and admin.enabled
        and overlap(address, admin.host)
        and not {"server", "admin"} & wrong
    ):
        text = f"{port} is already server.port; choose another"
        problems.append(Problem(("admin", "port"), text))
    audit = settings.audit.path
    own = os.path.normpath(settings.path)
    if audit is not None and os.path.normpath(settings.resolve(audit)) == own:
        text = "is this file, and lines would be appended to it: name another"
        problems.append(Problem(("audit", "path"), text))
    if settings.tracing is not None and not all(map(_is_installed, TRACING)):
        text = "needs the extra: install pexpolicy[tracing], or leave the table out"
        problems.append(Problem(("tracing",), text))
    return [*problems, *certificate_problems(settings)]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
