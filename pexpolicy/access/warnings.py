"""Warnings and problems of the access settings of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pydantic import SecretStr

from pexpolicy.access.certificates import (
    CertificateError,
    CertificateFiles,
    certificate_warnings,
    expired_list_warning,
    load,
)
from pexpolicy.access.networks import is_loopback, overlap
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import Settings
from pexpolicy.subnets import lone_network

MIN_KEY_LENGTH = 16
"""Recommended length of keys and tokens, in characters."""
MIN_PASSWORD_LENGTH = 8
"""Recommended length of passwords, whose guessing is throttled."""


def access_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each questionable setting, and for a certificate that expires soon."""
    access, auth, tls = settings.access, settings.credentials, settings.tls
    if access.trusted_proxies and not access.networks:
        text = (
            "proxies are trusted to name the client, but every address may connect: list the "
            "addresses of the nodes under access.networks, or name no proxies"
        )
        yield ConfigWarning(("access", "trusted_proxies"), text)
    mutual = tls is not None and tls.client_ca is not None
    if not access.networks and not mutual and auth and not is_loopback(settings.server.host):
        text = 'every address may try passwords; list those of the nodes, as in ["10.44.0.0/16"]'
        yield ConfigWarning(("access", "networks"), text)
    if access.networks and not auth and not mutual:
        text = "clients in these networks need no password; add [auth] unless that is intended"
        yield ConfigWarning(("access", "networks"), text)
    if not access.networks and "networks" in access.model_fields_set:
        text = "an empty list admits every address: list the networks of the nodes, or leave it out"
        yield ConfigWarning(("access", "networks"), text)
    for number, network in enumerate(access.networks):
        text = lone_network(network)
        if network in ("0.0.0.0/0", "::/0"):
            text = f"{network} is every address: list the networks of the nodes, or leave it out"
        if text:
            yield ConfigWarning(("access", "networks", number), text)
    yield from _console_warnings(settings)
    yield from _tracing_warnings(settings)
    yield from _secret_warnings(settings)
    if tls is not None:
        yield from _certificate_warnings(settings)


def _tracing_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    if settings.tracing is None:
        return
    endpoint = settings.tracing.endpoint
    text = ""
    if endpoint.rstrip("/").endswith(":4317"):
        text = "4317 is the port of OTLP over gRPC: write http://HOST:4318/v1/traces"
    elif urlsplit(endpoint).path in ("", "/"):
        text = "has no path, and collectors expect spans at /v1/traces: append it"
    if text:
        yield ConfigWarning(("tracing", "endpoint"), text)


def _console_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Warn of what keeps the console from its start."""
    console, key = settings.console, ("console", "port")
    for table, other in (("server", settings.server), ("admin", settings.admin)):
        is_same = console.port == other.port != 0 and overlap(console.host, other.host)
        if is_same and "port" in console.model_fields_set:
            yield ConfigWarning(key, f"{console.port} is already {table}.port; choose another")
    if text := console_exposure(console):
        yield ConfigWarning(("console", "host"), f"{text}; the console does not start without")
    if console.tls and settings.tls is None:
        text = "there is no [tls] with a certificate; the console does not start without"
        yield ConfigWarning(("console", "tls"), text)
    if (folder := settings.resolve(console.folder)).is_file():
        yield ConfigWarning(("console", "folder"), f"{folder} is a file: name a folder")


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
    """Yield a warning for each secret that is easy to guess, without its length."""
    text = f"is shorter than {MIN_KEY_LENGTH} characters: make one with openssl rand -hex 32"
    admin = settings.admin
    for table, source, secret in (
        ("privacy", settings.privacy.secret("key"), settings.privacy_key),
        ("admin", admin.secret("token"), settings.admin_token),
    ):
        if secret is not None and len(secret) < MIN_KEY_LENGTH:
            what = "key" if table == "privacy" else "token"
            yield ConfigWarning((table, source.key), f"the {what} {text}")
    for credential in settings.credentials:
        if not isinstance(credential.secret, SecretStr):
            continue
        password = credential.secret.get_secret_value()
        if len(password) > 1 and password[0] == password[-1] and password[0] in "\"'":
            text = (
                f"the password of {credential.user} is in quotes, and they are part of it: an "
                "env_file of Docker keeps them"
            )
            yield ConfigWarning(("auth",), text)
        if password != password.strip() or credential.user != credential.user.strip():
            text = (
                f"the user {credential.user!r} or its password has a blank at its start or end, "
                "which is part of it: remove it unless the policy profile has it too"
            )
            yield ConfigWarning(("auth",), text)
        if re.match(r"[A-Z][A-Z0-9_]+=", password):
            text = (
                f"the password of {credential.user} begins like a line of an env_file, NAME=: "
                "write the value alone"
            )
            yield ConfigWarning(("auth",), text)
        if len(password) < MIN_PASSWORD_LENGTH:
            least = MIN_PASSWORD_LENGTH
            text = f"the password of {credential.user} is shorter than {least} characters"
            yield ConfigWarning(("auth",), text)


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
