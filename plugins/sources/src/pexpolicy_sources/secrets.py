"""Secrets in the settings of sources."""

from __future__ import annotations

from pathlib import Path

from pexpolicy import SecretError, SettingsError, read_secret


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
        return read_secret(name, variable, None if file is None else str(file), Path())
    except SecretError as error:
        raise SettingsError(str(error), key=(error.key,)) from None
