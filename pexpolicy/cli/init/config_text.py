"""The text of a new ``config.toml``, with comments."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pexpolicy.cli.init.choices import CONSOLE_FOLDER, Choices

SCHEMA_FILE = "config.schema.json"
AUDIT_KEY = "audit-key.pem"
ADMIN_PORT = 9107
CONSOLE_PORT = 9109
LOOPBACK = "127.0.0.1/32"


def config_text(choices: Choices) -> str:
    """Return the whole file."""
    parts = (_server, _auth, _access, _tls, _admin, _audit, _console, _rooms)
    return "\n".join(line for part in parts for line in part(choices))


def _server(choices: Choices) -> Iterator[str]:
    reach = "every address" if choices.nodes else "this machine only"
    yield f"#:schema ./{SCHEMA_FILE}"
    yield "# The configuration of pexpolicy. After a change: pexpolicy check --strict"
    yield ""
    yield "[server]"
    yield _line("host", choices.host, reach)
    yield _line("port", choices.port)
    yield _line("budget", 4.0, "seconds for a whole call; Infinity gives up at 5")
    yield ""


def _auth(choices: Choices) -> Iterator[str]:
    if choices.user is None:
        yield "# [auth]                          # what the policy profile in Infinity sends"
        yield '# user = "pexip"'
        yield '# password_hash = "..."           # printed by pexpolicy hash-password'
    else:
        yield "# What the policy profile in Infinity sends. Another hash: pexpolicy hash-password"
        yield "[auth]"
        yield _line("user", choices.user)
        yield _line("password_hash", str(choices.password_hash))
    yield ""


def _access(choices: Choices) -> Iterator[str]:
    if choices.nodes:
        yield "# Who may connect: the Conferencing Nodes, and this machine for tests."
        yield "[access]"
        networks = dict.fromkeys((*choices.nodes, LOOPBACK))
        yield _line("networks", list(networks))
    else:
        yield '# [access]                        # who may connect; set host = "0.0.0.0" above too'
        yield '# networks = ["10.44.0.0/16"]     # the networks of the Conferencing Nodes'
    yield ""


def _tls(choices: Choices) -> Iterator[str]:
    if choices.certificate is None:
        yield "# [tls]                           # without it, calls and their PINs are readable"
        yield '# certificate = "tls/certificate.pem"'
        yield '# key = "tls/key.pem"'
    else:
        yield "# Renewed files are loaded within a second, without a restart."
        yield "[tls]"
        yield _line("certificate", choices.certificate, "with its intermediate certificates")
        yield _line("key", choices.key)
    yield ""


def _admin(_: Choices) -> Iterator[str]:
    yield "# Status, health and metrics for operators: pexpolicy status"
    yield "[admin]"
    yield _line("port", ADMIN_PORT, "on this machine only; another host needs a token")
    yield ""


def _audit(choices: Choices) -> Iterator[str]:
    yield "# One line of JSON for each call: pexpolicy audit tail"
    yield "[audit]"
    if choices.audit is None:
        yield '# path = "audit.jsonl"            # standard output without it'
    else:
        yield _line("path", choices.audit)
        yield _line("rotate_mb", 256)
        yield '# level = "fsync"                 # on the disk before the reply leaves'
    if choices.signs:
        yield _line("sign_key_file", AUDIT_KEY, "pexpolicy audit verify checks its signatures")
    yield ""


def _console(choices: Choices) -> Iterator[str]:
    if choices.console is None:
        return
    command = "pexpolicy console login" if choices.systemd else "pexpolicy console --login"
    yield f"# The web console, a process of its own: {command}"
    mark = "" if choices.console else "# "
    yield f"{mark}[console]"
    yield mark + _line("port", CONSOLE_PORT, "on this machine only; another host needs TLS")
    if choices.systemd:
        yield mark + _line("folder", CONSOLE_FOLDER, "its index, and who did what in it")
    yield ""


def _rooms(choices: Choices) -> Iterator[str]:
    if choices.rooms is None:
        yield "# Plugins decide: a table here activates one. Installed ones: pexpolicy plugins"
        yield "# [plugins.rooms.settings]"
        yield '# csv = "rooms.csv"'
    else:
        yield "# Plugins decide, the lowest priority first; add yours the same way."
        yield "[plugins.rooms]"
        yield _line("priority", 20)
        yield ""
        yield "[plugins.rooms.settings]"
        yield _line("csv", choices.rooms, "a spreadsheet; changes are noticed while it serves")
    yield ""


def _line(key: str, value: object, comment: str = "") -> str:
    text = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    if not comment:
        return text
    return f"{text:<34}# {comment}" if len(text) < 33 else f"{text}  # {comment}"  # noqa: PLR2004 - a column
