"""Descriptions of PEM files that cannot be used."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from pexpolicy.config.file_tracking import read_file


def describe_pem_error(path: Path, error: OSError | ValueError) -> str:
    """Describe why OpenSSL or the system refused a file."""
    why = getattr(error, "strerror", None) or "it is no PEM file, or needs another password"
    reason = getattr(error, "reason", None)
    return f"{path} cannot be used: {reason.replace('_', ' ').lower() if reason else why}"


def describe_password(key: Path, password: SecretStr | None) -> str:
    """Describe what is wrong with the password of a key; empty if that is not the problem."""
    try:
        content = read_file(key)
    except OSError:
        return ""
    if b"ENCRYPTED" not in content:
        return ""
    if password is None:
        named = "name it in tls.key_password_file or tls.key_password_env"
        return f"{key} has a password: {named}"
    return f"{key} has another password than the one that is configured"


def describe_swap(path: Path, wanted: str, other: str) -> str:
    """Describe a file that holds the other half of a pair; empty if it does not."""
    try:
        content = read_file(path).decode("latin-1")
    except OSError:
        return ""
    if f"{wanted.upper()}-----" in content or f"{other.upper()}-----" not in content:
        return ""
    return f"{path} holds a {other} and no {wanted}; are the two swapped?"
