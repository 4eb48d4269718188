"""Warnings of a configuration that opens a door, and problems of one that must not be served."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec

from pydantic import SecretStr

from pexpolicy.access.certificates import (
    CertificateError,
    CertificateFiles,
    certificate_warnings,
    expired_list_warning,
    load,
)
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


def _console_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Warn of what keeps the console from its start."""
    console = settings.console
    for table, other in (("server", settings.server), ("admin", settings.admin)):
        is_taken = console.port == other.port != 0 and overlap(console.host, other.host)
        if is_taken and "port" in console.model_fields_set:
            text = f"{console.port} is already {table}.port; choose another"
            yield ConfigWarning(("console", "port"), text)
    if text := console_exposure(console):
        yield ConfigWarning(("console", "host"), f"{text}; the console does not start without")


def access_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each setting that opens a door, and for a certificate that expires."""
    access, auth, tls = settings.access, settings.credentials, settings.tls
    networks = ("access", "networks")
    all_of_them = "list the networks of the nodes, or leave it out"
    if access.trusted_proxies and not access.networks:
        text = (
            "proxies are trusted to name the client, but every address may connect: list the "
            "addresses of the nodes under access.networks, or name no proxies"
        )
        yield ConfigWarning(("access", "trusted_proxies"), text)
    mutual = tls is not None and tls.client_ca is not None
    if not access.networks and not mutual and auth and not is_loopback(settings.server.host):
        text = 'every address may try passwords; list those of the nodes, as in ["10.44.0.0/16"]'
        yield ConfigWarning(networks, text)
    if access.networks and not auth and not mutual:
        text = "clients in these networks need no password; add [auth] unless that is intended"
        yield ConfigWarning(networks, text)
    if not access.networks and "networks" in access.model_fields_set:
        yield ConfigWarning(networks, f"an empty list admits every address: {all_of_them}")
    for number, network in enumerate(access.networks):
        text = lone_network(network)
        if network in ("0.0.0.0/0", "::/0"):
            text = f"{network} is every address: {all_of_them}"
        if text:
            yield ConfigWarning((*networks, number), text)
    yield from _console_warnings(settings)
    yield from _secret_warnings(settings)
    if tls is not None:
        yield from _certificate_warnings(settings)


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
    text = f"is shorter than {MIN_KEY_LENGTH} characters: make one with openssl rand -hex 32"
    key, token = settings.privacy.secret("key"), settings.admin.secret("token")
    if settings.privacy_key is not None and len(settings.privacy_key) < MIN_KEY_LENGTH:
        yield ConfigWarning(("privacy", key.key), f"the key {text}")
    if settings.admin_token is not None and len(settings.admin_token) < MIN_KEY_LENGTH:
        yield ConfigWarning(("admin", token.key), f"the token {text}")
    for credential in settings.credentials:
        if isinstance(credential.secret, SecretStr):
            password = credential.secret.get_secret_value()
            for text in _password_problems(credential.user, password):
                yield ConfigWarning(("auth",), f"the password of {credential.user} {text}")


def _password_problems(user: str, password: str) -> Iterator[str]:
    if len(password) > 1 and password[0] == password[-1] and password[0] in "\"'":
        yield "is in quotes, and they are part of it: an env_file of Docker keeps them"
    if password != password.strip() or user != user.strip():
        yield "or its user has a blank at its start or end, which is part of it: remove it"
    if re.match(r"[A-Z][A-Z0-9_]+=", password):
        yield "begins like a line of an env_file, NAME=: write the value alone"
    if len(password) < MIN_PASSWORD_LENGTH:
        yield f"is shorter than {MIN_PASSWORD_LENGTH} characters"


def _certificate_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    assert settings.tls is not None
    now, certificate = datetime.now(UTC), settings.path.parent / settings.tls.certificate
    try:
        loaded = load(CertificateFiles.of(settings.tls, settings.path.parent))
    except (CertificateError, SecretError):
        return  # an error of certificate_problems
    for text in certificate_warnings(certificate, now):
        yield ConfigWarning(("tls", "certificate"), text)
    if text := expired_list_warning(loaded.revocations, now):
        yield ConfigWarning(("tls", "client_crl"), text)


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
    address = host or settings.server.host
    # A table that could not be read is reported as an error of its own.
    if (
        not settings.credentials
        and "auth" not in settings.wrong
        and not settings.server.allow_anonymous
        and not is_loopback(address)
    ):
        text = (
            f"{address} is reachable from other machines and there is no [auth]; add it, or set "
            "allow_anonymous = true to allow calls without a password"
        )
        problems.append(Problem(("server", "host"), text))
    tables = [settings.admin] if running_admin is None else [running_admin, settings.admin]
    exposed = [table.host for table in tables if table.enabled and not is_loopback(table.host)]
    if exposed and settings.admin_token is None and "admin" not in settings.wrong:
        text = (
            f"{exposed[0]} is reachable from other machines and there is no token; add token_env "
            "or token_file"
        )
        problems.append(Problem(("admin", "host"), text))
    if not {"server", "admin"} & settings.wrong and _same_port(settings, address, ports):
        number = settings.server.port if ports[0] is None else ports[0]
        text = f"{number} is already server.port; choose another"
        problems.append(Problem(("admin", "port"), text))
    audit = settings.audit.path
    if audit is not None and os.path.normpath(settings.resolve(audit)) == os.path.normpath(
        settings.path
    ):
        text = "is this file, and lines would be appended to it: name another"
        problems.append(Problem(("audit", "path"), text))
    if settings.tracing is not None and not all(map(_is_installed, TRACING)):
        text = "needs the extra: install pexpolicy[tracing], or leave the table out"
        problems.append(Problem(("tracing",), text))
    return [*problems, *certificate_problems(settings)]


def _same_port(settings: Settings, address: str, ports: Ports) -> bool:
    """Return whether both listeners would use the same port on overlapping addresses."""
    admin = settings.admin
    number = settings.server.port if ports[0] is None else ports[0]
    other = admin.port if ports[1] is None else ports[1]
    return admin.enabled and number == other != 0 and overlap(address, admin.host)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
