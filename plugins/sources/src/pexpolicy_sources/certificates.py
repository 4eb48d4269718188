"""Certificates that sources trust."""

from __future__ import annotations

import ssl
from pathlib import Path

from pexpolicy import SettingsError, track_file


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what verifies servers, by the system's certificates or those of a tracked file.

    Raises ``SettingsError``.
    """
    if ca_file is not None:
        track_file(ca_file)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{ca_file} cannot be used: {reason}", key=("ca_file",)) from None
