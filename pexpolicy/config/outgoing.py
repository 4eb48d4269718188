"""What is needed to connect to a server: its URL, secrets and certificates."""

from __future__ import annotations

import re
import ssl
from ipaddress import ip_address
from pathlib import Path

from yarl import URL

from pexpolicy.config.files import track_file, why_unusable
from pexpolicy.config.plugin_settings import SettingsError
from pexpolicy.config.secrets import SecretError, read_secret

_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
"""Finds what the client refuses to send, at each request."""


def whole_url(written: str, example: str, instead: str, *, encoded: bool = False) -> URL:
    """Return the parts of an HTTP URL; raise ``ValueError``, also for credentials in it.

    ``example`` is such a URL, and ``instead`` the keys that credentials are written under.
    """
    try:
        url = URL(written, encoded=encoded)
        host = url.raw_host
    except ValueError:  # an IPv6 address without brackets, a port above 65535
        url, host = URL(), None
    odd = re.search(r"[\s{}\\]|(?<!:)//|://[^/\[@]*:[^/\[@]*:", written)
    if odd or url.scheme not in ("http", "https") or not host:
        msg = (
            f"write a whole URL, as in {example}: without blanks, braces, backslashes and //, and "
            "an IPv6 address in brackets"
        )
        raise ValueError(msg)
    if url.raw_user is not None or url.raw_password is not None:
        msg = f"credentials are never in this file: write {instead}"
        raise ValueError(msg)
    return url


def is_loopback(host: str | None) -> bool:
    """Return whether a host to connect to, or to listen on, is this machine only."""
    try:
        return ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_encrypted(url: str) -> bool:
    """Return whether no one else can read what is sent to an HTTP URL; loopback counts."""
    parsed = URL(url)
    return parsed.scheme == "https" or is_loopback(parsed.host)


def secret(name: str, variable: str | None, file: Path | None) -> str | None:
    """Return the secret of the keys ``NAME_env`` and ``NAME_file``; ``None`` without either.

    Raises ``SettingsError``. The file is tracked.
    """
    if variable is not None and file is not None:
        text = f"write {name}_env (a variable) or {name}_file (a path), not both"
        raise SettingsError(text, key=(f"{name}_env",))
    if variable is None and file is None:
        return None
    try:
        found = read_secret(name, variable, None if file is None else str(file), Path())
    except SecretError as error:
        raise SettingsError(str(error), key=(error.key,)) from None
    if name == "token" and _UNSENDABLE(found):
        key = f"token_{'file' if variable is None else 'env'}"
        raise SettingsError("has a control character, which no header can hold", key=(key,))
    return found


def tls_context(
    ca_file: Path | None,
    client_cert: Path | None = None,
    client_key: Path | None = None,
    *,
    verify: bool = True,
) -> ssl.SSLContext:
    """Return what verifies servers, by the system's certificates or those of a file.

    ``client_cert`` identifies this server. The files are tracked. Raises ``SettingsError``.
    """
    for file in filter(None, (ca_file, client_cert, client_key)):
        track_file(file)
    key, path = ("ca_file", ca_file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if ca_file is not None:
            # Own authorities often leave out what Python 3.13 wants in addition.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if client_cert is not None:
            key, path = "client_cert", client_cert
            # Without a password, an encrypted key would be asked for on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, ssl.SSLError):
            reason = "it holds no certificate or key in PEM without a password"
        elif path is not None and isinstance(error, OSError):
            reason = why_unusable(path, error)
        raise SettingsError(f"{path} cannot be used: {reason}", key=(key,)) from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
