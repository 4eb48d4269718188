"""The files of a new configuration, with their modes."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from pexpolicy.cli.init.choices import Choices
from pexpolicy.cli.init.config_text import AUDIT_KEY, SCHEMA_FILE, config_text
from pexpolicy.plugins.config_schema import config_schema
from pexpolicy.plugins.discovery import installed

PRIVATE, PUBLIC = 0o600, 0o644
AUDIT_PUBLIC_KEY = "audit-public.pem"
UNIT = "pexpolicy.service"
NAMES = (
    *("config.toml", SCHEMA_FILE, AUDIT_KEY, AUDIT_PUBLIC_KEY, UNIT),
    *("tls/key.pem", "tls/certificate.pem", "tls/ca.pem"),
)
"""The files that ``init`` writes, apart from the rooms."""
GROUP = "pexpolicy-config"
"""The group with which the unit reads its configuration."""
EXAMPLE_ROOMS = """\
aliases,name,pin,guest_pin,allow_guests
meet@example.com 2301,Example room,,,
board@example.com,Example board,{},{},true
"""


class TakenError(Exception):
    """A file that would be written exists already."""


def contents(choices: Choices, test_host: str | None) -> dict[str, tuple[bytes, int, str]]:
    """Return content, mode and purpose of each file by its name; existing inputs are left out.

    ``test_host`` is the name for which a certificate is made.
    """
    schema = json.dumps(config_schema(installed()), indent=1, ensure_ascii=False) + "\n"
    found = {
        "config.toml": (config_text(choices).encode(), PRIVATE, "the configuration"),
        SCHEMA_FILE: (schema.encode(), PUBLIC, "its schema, for completion in an editor"),
    }
    if choices.rooms is not None and not (choices.folder / choices.rooms).exists():
        found[choices.rooms] = (_rooms().encode(), PRIVATE, "the rooms: two examples")
    if test_host is not None:
        from pexpolicy.cli.init.tls_files import certificate_files  # noqa: PLC0415 - only with TLS

        made = certificate_files(test_host)
        found["tls/key.pem"] = (made["key.pem"], PRIVATE, "the private key")
        found["tls/certificate.pem"] = (made["certificate.pem"], PUBLIC, "the certificate")
        found["tls/ca.pem"] = (made["ca.pem"], PUBLIC, "the CA that the nodes must trust")
    if choices.signs:
        found |= _audit_keys()
    if choices.systemd:
        found[UNIT] = (_unit(choices).encode(), PUBLIC, "the systemd unit")
    return found


def write(choices: Choices, found: dict[str, tuple[bytes, int, str]]) -> None:
    """Write all files or none; raises ``TakenError`` or ``OSError``."""
    folder = choices.folder
    if taken := [name for name in found if os.path.lexists(folder / name)]:
        raise TakenError(f"{', '.join(taken)} in {folder}")
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
    except OSError:
        # The password of a configuration that is only half there was never shown.
        for path in made:
            path.unlink()
        raise
    if choices.audit is not None:
        # The unit would make it too, but check warns until it exists.
        with suppress(OSError):
            (folder / choices.audit).parent.mkdir(mode=0o750, parents=True, exist_ok=True)


def _rooms() -> str:
    """Return the example, with PINs that are not the same on each machine."""
    return EXAMPLE_ROOMS.format(*(100_000 + secrets.randbelow(900_000) for _ in range(2)))


def _audit_keys() -> dict[str, tuple[bytes, int, str]]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - only if it signs
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the same
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        AUDIT_KEY: (private, PRIVATE, "the key that signs the audit"),
        AUDIT_PUBLIC_KEY: (public, PUBLIC, "its public key: keep a copy on another machine"),
    }


def _unit(choices: Choices) -> str:
    """Return the unit of this installation; the group replaces the credential."""
    text = files("pexpolicy.cli.init").joinpath(UNIT).read_text(encoding="utf-8")
    # A single file names itself; its interpreter is in a cache.
    program = os.environ.get("PEX") or Path(sys.executable).with_name("pexpolicy")
    config = choices.folder.absolute() / "config.toml"
    text = text.replace("/opt/pexpolicy/bin/pexpolicy", _word(str(program)))
    text = text.replace("/etc/pexpolicy/config.toml", _word(str(config).replace("$", "$$")))
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
