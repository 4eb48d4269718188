"""What of a configuration's access is valid, and should be known all the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import SecretStr

from pexpolicy.access.certificates import CertificateError, CertificateFiles, expiry, load
from pexpolicy.access.networks import is_loopback
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import Settings

LONG = 16
"""Characters that keys and tokens have at least: programs remember them."""
SHORT = 8
"""Characters that passwords have at least; wrong ones are answered ever later."""


def access_warnings(settings: Settings, now: datetime | None = None) -> Iterator[ConfigWarning]:
    """What to look at, with its key. ``now`` is the time to hold certificates against."""
    access, auth, tls = settings.access, settings.credentials, settings.tls
    if access.trusted_proxies and not access.networks:
        text = (
            "named proxies tell whom a call comes from, and every address may call: list the "
            "addresses of the nodes under access.networks, or name no proxies"
        )
        yield ConfigWarning(("access", "trusted_proxies"), text)
    mutual = tls is not None and tls.client_ca is not None
    if not access.networks and not mutual and auth and not is_loopback(settings.server.host):
        text = 'every address may try passwords; list those of the nodes, as in ["10.44.0.0/16"]'
        yield ConfigWarning(("access", "networks"), text)
    if access.networks and not auth and not mutual:
        text = "who calls from these networks needs no password; add [auth] unless that is wanted"
        yield ConfigWarning(("access", "networks"), text)
    if settings.limits.connections_per_peer > settings.limits.connections:
        text = "is more than limits.connections, so one peer may hold them all"
        yield ConfigWarning(("limits", "connections_per_peer"), text)
    yield from _of_secrets(settings)
    if tls is not None:
        yield from _of_certificate(settings, now or datetime.now(UTC))


def _of_secrets(settings: Settings) -> Iterator[ConfigWarning]:
    """Secrets that somebody who tries finds; how long one is exactly is not told."""
    text = f"is shorter than {LONG} characters and can be found by trying: openssl rand -hex 32"
    key, token = settings.privacy_key, settings.admin_token
    if key is not None and len(key) < LONG:
        name = settings.privacy.secret("key").key
        yield ConfigWarning(("privacy", name), f"the key {text} makes one")
    if token is not None and len(token) < LONG:
        name = settings.admin.secret("token").key
        yield ConfigWarning(("admin", name), f"the token {text} makes one")
    for credential in settings.credentials:
        if isinstance(credential.secret, SecretStr) and len(credential.secret) < SHORT:
            said = f"the password of {credential.user} is shorter than {SHORT} characters"
            yield ConfigWarning(("auth",), said)


def _of_certificate(settings: Settings, now: datetime) -> Iterator[ConfigWarning]:
    assert settings.tls is not None
    try:
        not_after = load(CertificateFiles.of(settings.tls, settings.path.parent)).not_after
    except (CertificateError, SecretError):
        return  # an error, and told as one
    if text := expiry(not_after, now):
        yield ConfigWarning(("tls", "certificate"), text)


def problems_of(settings: Settings) -> list[Problem]:
    """What keeps the certificate of a configuration from being served."""
    if settings.tls is None:
        return []
    try:
        load(CertificateFiles.of(settings.tls, settings.path.parent))
    except (CertificateError, SecretError) as error:
        return [Problem(("tls", error.key), str(error))]
    return []
