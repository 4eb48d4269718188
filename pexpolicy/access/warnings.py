"""Warnings of a configuration that opens a door, loses data or lets others read a secret, and
problems of one that must not be served.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from itertools import combinations, product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from pexpolicy.access.certificates import configured, load
from pexpolicy.config.files import CREDENTIALS, DYNAMIC, FileUser, NamedPath, missing_hint, odd_path
from pexpolicy.config.outgoing import is_encrypted, tls_context
from pexpolicy.config.problems import ConfigWarning, Key, Problem, SettingsError
from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy.config.schema.server import AdminTable
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.models.subnets import is_loopback, lone_network
from pexpolicy.text import suggest

Findings = Iterator[tuple[Key, str]]
"""Keys, and what is questionable about them."""
MIN_KEY_LENGTH = 16
"""Recommended length of keys and tokens, in characters."""
MIN_PASSWORD_LENGTH = 8
"""Recommended length of passwords, whose guessing is throttled."""
TRACING = "opentelemetry.exporter.otlp.proto.http"
"""What the extra `tracing` installs."""
_ODD_PASSWORDS = {
    r"""(["']).+\1|\s.*|.*\s|[A-Z][A-Z0-9_]+=.*""": "has quotes or blanks around it, or NAME= "
    "before it, and they are part of it: write the value alone",
    f".{{0,{MIN_PASSWORD_LENGTH - 1}}}": f"is shorter than {MIN_PASSWORD_LENGTH} characters",
}
_WITH_FILES = ("privacy", "admin", "audit", "tls", "console", "fleet", "bundle")
_OF_TLS = ("certificate", "key", "client_ca", "client_crl")
_SECRET_FILE = re.compile(r"(?:password|passwd|secret|token|key|hash)_file|client_key|^key$")
_NAME = r"(?:\w+[_ ])?(?:pin|password|passcode|secret|token|api_?key)"
_HOLDS_SECRETS = re.compile(
    rf'(?:^|[{{,])[ \t]*"?{_NAME}"?[ \t]*=|(?:^|[;,\t])[ ]*"?{_NAME}"?[ ]*(?:$|[;,\t\r])'.encode(),
    re.IGNORECASE | re.MULTILINE,
)
"""Finds a column of a CSV file, or a key of a TOML file, that holds secrets."""
_SEARCHED = 1_000_000
"""Bytes at the beginning of a file in which a secret is searched for."""


def access_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each setting that opens a door or loses the audit, and for a certificate
    that expires.
    """
    for findings in (_network_findings, _environment_findings, _secret_findings, _other_findings):
        yield from (ConfigWarning(key, text) for key, text in findings(settings))


def _other_findings(settings: Settings) -> Findings:
    """Yield what is wrong with the listener of the console, and with the certificate."""
    console = settings.console
    others = settings.server.port, settings.admin.port
    if console.port in others and "port" in console.model_fields_set:
        yield ("console", "port"), "is server.port or admin.port; choose another"
    if text := console_exposure(console):
        yield ("console", "host"), f"{text}; the console does not start without"
    if settings.tls is not None:
        with suppress(ConfigError):  # a problem of preflight_problems
            loaded = configured(settings.path, settings.tls, load)
            for name, text in loaded.warnings(datetime.now(UTC)):
                yield ("tls", name), text


def _network_findings(settings: Settings) -> Findings:
    access, auth, tls = settings.access, settings.credentials, settings.tls
    mutual = tls is not None and tls.client_ca is not None
    is_exposed = auth and not mutual and not is_loopback(settings.server.host)
    if access.networks and not auth and not mutual:
        text = "clients in these networks need no password; add [auth] unless that is intended"
        yield ("access", "networks"), text
    elif not access.networks and (access.model_fields_set or is_exposed):
        text = 'every address may connect; list those of nodes, as in networks = ["10.44.0.0/16"]'
        yield ("access", "trusted_proxies" if access.trusted_proxies else "networks"), text
    tables: dict[Key, object] = {("access",): access, ("api",): settings.api}
    tables |= {("environments", name): table for name, table in settings.environments.items()}
    for place, key in product(tables, ("networks", "trusted_proxies")):
        for number, network in enumerate(getattr(tables[place], key, ())):
            text = lone_network(network)
            if network in ("0.0.0.0/0", "::/0"):
                text = f"{network} is every address: list those that are meant, or leave it out"
            if text:
                yield (*place, key, number), text


def _environment_findings(settings: Settings) -> Findings:
    """Yield what keeps calls from their environment, or events from its plugins."""
    users = [one.user for one in settings.credentials]
    sources = settings.event_tables
    for name, table in settings.environments.items():
        if not table.networks and not table.credentials:
            yield ("environments", name), "no call is of it: name networks or credentials"
        for number, user in enumerate(table.credentials):
            if user not in users:
                text = f"no call is of {user!r}: [auth] has no such user{suggest(user, users)}"
                yield ("environments", name, "credentials", number), text
        if table.events is not None and table.events not in sources:
            text = f"[events] has no source {table.events!r}{suggest(table.events, sources)}"
            yield ("environments", name, "events"), text


def console_exposure(console: ConsoleTable) -> str:
    """Return why passwords of the console would cross a network in clear, or nothing."""
    behind_tls = console.url is not None and console.url.startswith("https:")
    if console.tls or behind_tls or is_loopback(console.host):
        return ""
    return (
        f"{console.host} is reachable by others without TLS: write tls = true, or name the URL of "
        'the proxy that ends TLS, as in url = "https://console.example.com"'
    )


def _secret_findings(settings: Settings) -> Findings:
    """Yield each secret that is easy to guess, sent in clear, or hardly the one that is meant."""
    admin = settings.admin
    if admin.enabled and settings.admin_token and not (admin.tls or is_loopback(admin.host)):
        yield ("admin", "host"), "the token is sent in clear: write tls = true"
    for number, url in enumerate(settings.fleet.servers):
        if not is_encrypted(url):
            yield ("fleet", "servers", number), "the token is sent in clear: write https"
    advice = f"is shorter than {MIN_KEY_LENGTH} characters: make one with openssl rand -hex 32"
    for table, source, value in (
        ("privacy", settings.privacy.secret("key"), settings.privacy_key),
        ("admin", settings.admin.secret("token"), settings.admin_token),
    ):
        if value is not None and len(value) < MIN_KEY_LENGTH:
            yield (table, source.key), f"the {source.name} {advice}"
    for credential in settings.credentials:
        if isinstance(credential.secret, SecretStr):
            password = credential.secret.get_secret_value()
            for pattern, text in _ODD_PASSWORDS.items():
                if re.fullmatch(pattern, password, re.DOTALL):
                    yield ("auth",), f"the password of {credential.user} {text}"


def core_paths(settings: Settings) -> Iterator[NamedPath]:
    """Yield what the tables of the configuration name, those of plugins excepted."""
    own, console = settings.path.absolute(), settings.resolve(settings.console.folder)
    yield from (NamedPath(own.parent), NamedPath(console, (), "other"))
    yield NamedPath(own, (), "secret" if _holds_secrets(own, "") else "read")
    for number, folder in enumerate(settings.plugin_folders):
        of_folder = ("plugin_dirs", number)
        yield from (NamedPath(one, of_folder) for one in (folder, *sorted(folder.glob("*.py"))))
    tables: list[tuple[Key, Any]] = [((name,), getattr(settings, name)) for name in _WITH_FILES]
    for place, table in tables:
        for name, value in enumerate(table) if isinstance(table, list) else table or ():
            if isinstance(value, BaseModel | list):
                tables.append(((*place, name), value))
            elif value is not None and (
                str(name).endswith("_file") or name in _OF_TLS or place[-1] == "public_keys"
            ):
                yield NamedPath(settings.resolve(value), (*place, name))
    yield from (NamedPath(file, ("auth",), "secret") for file in settings.secret_files)
    if settings.audit.path is not None:
        yield NamedPath(settings.resolve(settings.audit.path), ("audit", "path"), "file")
    key: Key = ("server", "state_dir") if settings.server.state_dir else ()
    yield NamedPath(settings.state_dir, key, "kept")
    if settings.bundle is not None:
        yield NamedPath(settings.bundles, ("bundle", "folder"), "kept")
    if settings.audit.spool is not None:
        yield NamedPath(settings.resolve(settings.audit.spool), ("audit", "spool"), "folder")


def path_findings(paths: Iterable[NamedPath], user: FileUser) -> Iterator[Problem | ConfigWarning]:
    """Yield a warning for each secret that others can read, and each path that others can change;
    a problem for each path that ``user`` cannot read or write as it has to.
    """
    seen: set[Path] = set()
    for path, key, use in ((one.path.absolute(), one.key, one.use) for one in paths):
        if use in ("file", "folder", "made"):
            yield from _why_not_written(path, key, use, user)
        elif use == "kept":
            # Without a key it may be what systemd makes for a service.
            if key or not user.state_folder:
                for found in _why_not_written(path, key, "made", user):
                    yield ConfigWarning(key, f"nothing is kept: {found.text}")
        elif not _mode(path) and use == "read" and path not in seen:
            yield ConfigWarning(key, f"there is no file {path}{missing_hint(path)}")
        elif path not in seen and use != "other" and _mode(path) and not user.may_read(path):
            yield Problem(key, f"{path} cannot be read by {user}: {user.grant(path)}")
        for one in (path.parent, path) if use == "file" else (path,):
            if one not in seen and _mode(one):
                yield from (ConfigWarning(key, text) for text in _loose(one, key, use, user))
            seen.add(one)


def _loose(path: Path, key: Key, use: str, user: FileUser) -> Iterator[str]:
    """Yield what others can do with a path."""
    found = path.stat()
    if use == "secret" or (use == "read" and key and _holds_secrets(path, str(key[-1]))):
        shared = (user.shared_group(path), found.st_gid if found.st_uid == 0 else 0)
        by_group = found.st_mode & stat.S_IRGRP and found.st_gid not in {*shared} - {0}
        others = "every user" if found.st_mode & stat.S_IROTH else "its group" * bool(by_group)
        if others:
            yield f"{path} can be read by {others}: {user.grant(path)}"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        yield f"{path} can be changed by every user: chmod o-w {shlex.quote(str(path))}"
    is_own = not user.uid or found.st_uid in (0, user.uid, *DYNAMIC)
    if use in ("folder", "made", "kept") and not is_own:
        yield f"{path} belongs to another user than {user}, who can change what is in it"


def _why_not_written(
    path: Path, key: Key, use: str, user: FileUser
) -> Iterator[Problem | ConfigWarning]:
    """Yield why a file, or files of a folder, cannot be written."""
    folder = path.parent if use == "file" else path
    if use == "made":
        folder = next(one for one in (path, *path.parents) if _mode(one))
    if text := odd_path(str(path)):
        yield ConfigWarning(key, text)
    elif use == "file" and stat.S_ISDIR(_mode(path)):
        yield ConfigWarning(key, f"{path} is a folder; name a file, as in {path}/audit.jsonl")
    elif user.may(path, os.W_OK) or (not _mode(path) and user.may(folder, os.W_OK)):
        return
    elif use == "file" and _mode(path) and folder.stat().st_uid == user.uid:
        text = f"{user} may not write to {path}: chown {user} {shlex.quote(str(path))}"
        yield Problem(key, text)
    elif _mode(folder):
        own = next((one for one in user.folders if one != CREDENTIALS), "/var/lib/pexpolicy")
        text = f"{user} may not write to {folder}: name one in a folder of its own, such as {own}"
        yield Problem(key, text)
    else:
        text = f"there is no folder {folder} that {user} may enter: mkdir -p {folder}"
        yield (ConfigWarning if use == "file" else Problem)(key, text)


def _holds_secrets(path: Path, key: str) -> bool:
    """Return whether a file is a secret by its key, or a table that holds secrets."""
    if _SECRET_FILE.search(key):
        return True
    if not (path.suffix in (".csv", ".toml") or key in ("csv", "pins")) or path.is_dir():
        return False
    try:
        with path.open("rb") as file:
            return _HOLDS_SECRETS.search(file.read(_SEARCHED)) is not None
    except OSError:
        return False  # an error of the plugin


def _mode(path: Path) -> int:
    """Return the mode of a file or folder; 0 for anything else and for a missing file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return 0
    return mode if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else 0


def preflight_problems(
    settings: Settings,
    host: str | None = None,
    running_admin: AdminTable | None = None,
    ports: tuple[int | None, int | None] = (None, None),
) -> Iterator[Problem]:
    """Yield why a server must not listen, such as PINs that are readable without a password.

    ``host`` is the address to listen on, by default the configured one. ``running_admin`` is the
    table with which the admin listener of a running server was started: it keeps its address and
    uses the new token. ``ports`` override the two configured ports.
    """
    yield from settings.unread
    address = host or settings.server.host
    # A table that could not be read is reported as an error of its own.
    admin, wrong, audit = settings.admin, settings.wrong, settings.audit.path
    reachable = "is reachable from other machines and there is no"
    is_open = not settings.credentials and not settings.server.allow_anonymous
    if is_open and "auth" not in wrong and not is_loopback(address):
        text = "[auth]; add it, or set allow_anonymous = true to allow calls without a password"
        yield Problem(("server", "host"), f"{address} {reachable} {text}")
    tables = [table for table in (running_admin, admin) if table and table.enabled]
    exposed = [table.host for table in tables if not is_loopback(table.host)]
    if exposed and settings.admin_token is None and "admin" not in wrong:
        text = f"{exposed[0]} {reachable} token; add token_env or token_file"
        yield Problem(("admin", "host"), text)
    yield from _listener_problems(settings, address, ports)
    own = os.path.normpath(settings.path)
    if audit is not None and os.path.normpath(settings.resolve(audit)) == own:
        text = "is this file, and lines would be appended to it: name another"
        yield Problem(("audit", "path"), text)
    if settings.tracing is not None:
        try:
            import_module(TRACING)
        except ImportError:
            text = "needs the extra: install pexpolicy[tracing], or leave the table out"
            yield Problem(("tracing",), text)
    try:
        if settings.tls is not None:
            configured(settings.path, settings.tls, load)
        if settings.fleet.ca_file is not None:
            tls_context(settings.resolve(settings.fleet.ca_file))
    except ConfigError as error:
        yield from error.problems
    except SettingsError as error:
        yield Problem(("fleet", "ca_file"), error.problems[0].text)


def _listener_problems(
    settings: Settings, address: str, ports: tuple[int | None, int | None]
) -> Iterator[Problem]:
    """Yield which listeners have the port of another one, and where tokens are sent in clear."""
    (port, admin_port), admin, api = ports, settings.admin, settings.api
    listeners = [("server", address, settings.server.port if port is None else port)]
    if admin.enabled:
        listeners.append(("admin", admin.host, admin.port if admin_port is None else admin_port))
    if api is not None:
        listeners.append(("api", api.host, api.port))
        if not (settings.tls or is_loopback(api.host) or "tls" in settings.wrong):
            text = "is reachable from other machines: add [tls], or tokens are sent in clear"
            yield Problem(("api", "host"), f"{api.host} {text}")
    for (first, one, number), (second, other, same) in combinations(listeners, 2):
        is_taken = number == same != 0 and _overlap(one, other)
        if is_taken and settings.wrong.isdisjoint((first, second)):
            yield Problem((second, "port"), f"{number} is already {first}.port; choose another")


def _overlap(*hosts: str) -> bool:
    """Return whether two hosts to listen on cannot use the same port."""
    plain = {host.lower().strip("[]").replace("localhost", "127.0.0.1") for host in hosts}
    is_any = not plain.isdisjoint(("", "0.0.0.0", "::"))  # noqa: S104 - nothing listens
    return len(plain) == 1 or (is_any and len({":" in host for host in plain}) == 1)
