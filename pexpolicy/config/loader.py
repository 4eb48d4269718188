"""Configuration loader: TOML to frozen settings, strict, with all errors at once."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pydantic
from pydantic import SecretStr

from pexpolicy.config.files import (
    EncodingError,
    decode_text,
    kept_copies,
    read_file,
    track_file,
    tracking,
    why_unusable,
)
from pexpolicy.config.places import broken_toml
from pexpolicy.config.problems import Key, Problem, SettingsError, problems_of
from pexpolicy.config.schema.server import (
    AuthTable,
    CredentialTable,
    EventSourceTable,
    PasswordTable,
)
from pexpolicy.config.secrets import (
    Credential,
    InvalidKeyError,
    PasswordHash,
    SecretError,
    private_key,
)
from pexpolicy.config.settings import (
    DECIDING,
    MANIFEST,
    POLICY,
    PRESENT,
    Bundle,
    ConfigError,
    Document,
    Environments,
    Manifest,
    Settings,
    Tenants,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of, enumerated_fields
from pexpolicy.text import suggest

T = TypeVar("T")
Tables = Mapping[str, Any]
"""A parsed configuration."""


def load(path: Path, *, content: bytes | None = None) -> Settings:
    """Read and check a configuration file; raises ``ConfigError`` with all problems.

    ``content`` are its bytes if the caller has read it already.
    """
    try:
        content = read_file(path) if content is None else content
        text = decode_text(content)
    except OSError as error:
        why = f"{why_unusable(path, error)}; --config or PEXPOLICY_CONFIG name another file"
        raise ConfigError(path, [Problem((), f"cannot be read: {why}")]) from None
    except EncodingError as error:
        raise ConfigError(path, [Problem((), str(error))]) from None
    settings = from_document(_parsed(path, text), path)
    digest = hashlib.sha256(content).hexdigest()
    return settings.model_copy(update={"is_empty": not content, "content_digest": digest})


def _parsed(path: Path, text: str) -> dict[str, Any]:
    """Parse the text of a file; raises ``ConfigError``."""
    try:
        # Packed and unpacked, 100,000 rooms do not lie in the holes that parsing leaves in memory,
        # which would stay as long as they do.
        document: dict[str, Any] = pickle.loads(pickle.dumps(tomllib.loads(text)))  # noqa: S301 - packed here
    except (ValueError, RecursionError) as error:
        why, at = broken_toml(error, text)
        raise ConfigError(path, [Problem((), f"is not valid TOML: {why}", at=at)]) from None
    return document


def from_document(document: Tables, path: Path) -> Settings:
    """Check a parsed configuration; raises ``ConfigError`` with all problems."""
    tables, problems = _salvage(document)
    present = None
    if tables.bundle is not None:
        own = Settings.model_construct(**dict(tables), path=path)
        document, present, refused = _with_bundle(document, own.bundles)
        tables, problems = _salvage(document)
        problems += refused
    problems += [*_misplaced(tables, document), *_unknown_environments(tables)]

    def secret(table: str, name: str, check: Callable[[str], object] = str) -> SecretStr | None:
        source = getattr(tables, table).secret(name)
        try:
            if source.places:
                check(value := source.read(path.parent))
                return SecretStr(value)
        except (SecretError, InvalidKeyError) as error:
            problems.append(Problem((table, source.key), str(error)))
        return None

    with tracking() as tracked:
        sinks: dict[Key, EventSourceTable] = {
            ("events",) if one is tables.events else ("events", name): one
            for name, one in tables.event_tables.items()
        }
        # Only a server needs them, so what is wrong with them concerns no other command.
        of_sinks, unread = credentials_of(sinks, path.parent)
        users = tables.auth.users if tables.auth is not None else {}
        credentials, unreadable = credentials_of(users, path.parent)
        problems += unreadable
        with tracking() as deciding:
            privacy_key = secret("privacy", "key")
        admin_token, shared_password = secret("admin", "token"), secret("shared", "password")
        fleet_key, fleet_token = secret("fleet", "key"), secret("fleet", "token")
    if fleet_key is not None and len(fleet_key) < MIN_KEY_LENGTH:
        problems.append(Problem(("fleet", "key_file"), f"holds fewer than {MIN_KEY_LENGTH} bytes"))
    sign_key = secret("audit", "sign_key", private_key)

    def built(table: str, kind: Callable[[Any], T]) -> T:
        try:
            return kind(getattr(tables, table))
        except SettingsError as error:
            problems.extend(error.problems)
            return kind({})

    nodes = built("environments", partial(Environments, sources=tables.event_tables))
    known = {
        "infinity": tables.infinity,
        "extras": tables.infinity.extras,
        "tenants": built("tenants", Tenants),
        "event_sources": nodes.event_sources,
    }
    plugins = {n: t.with_context(tables.log.level, **known) for n, t in tables.plugins.items()}
    settings = Settings.model_construct(
        **{**dict(tables), "plugins": plugins},
        path=path,
        tables_digest=_digest_of(document),
        present=present,
        nodes=nodes,
        credentials=tuple(credentials.values()),
        event_credentials={
            "default" if key == ("events",) else str(key[1]): one for key, one in of_sinks.items()
        },
        unread=tuple(unread),
        privacy_key=privacy_key,
        admin_token=admin_token,
        sign_key=sign_key,
        secret_files=tuple(tracked.files),
        secrets=tuple(deciding.secrets),
        fleet_key=fleet_key,
        fleet_token=fleet_token,
        shared_password=shared_password,
        wrong=frozenset(problem.key[0] for problem in problems if problem.key),
    )
    if problems:
        raise ConfigError(settings.file_of(problems), problems, settings)
    return settings


def present_bundle(folder: Path) -> Bundle:
    """Return the present one of the bundles in a folder; raises ``OSError`` or ``ValueError``, also
    for a file that is not as it was signed. Copies have been compared where they are read.
    """
    track_file(folder / PRESENT)
    inner = folder / read_file(folder / PRESENT).decode()
    manifest = msgspec.json.decode(read_file(inner / MANIFEST), type=Manifest)
    for name, digest in manifest.files.items() if kept_copies() is None else ():
        if hashlib.sha256(read_file(inner / name)).hexdigest() != digest:
            raise ValueError(f"{inner / name} differs from its manifest")
    return Bundle(inner, manifest)


def _with_bundle(document: Tables, folder: Path) -> tuple[Tables, Bundle | None, Iterable[Problem]]:
    """Return a document with the tables of the present bundle, the bundle, and what is wrong."""
    present = None
    try:
        present = present_bundle(folder)
        track_file(policy := present.files[-1])
        found = _parsed(policy, decode_text(read_file(policy)))
    except ConfigError as error:
        return document, present, error.problems
    except (OSError, ValueError) as error:
        why = f"cannot be used: {error}"
        if isinstance(error, FileNotFoundError):
            why = "has no bundle yet: the server fetches it when it starts"
        return document, None, [Problem(("bundle", "folder"), f"{folder} {why}")]
    both = "is in this file too: move it to"
    own = "says how one server runs: move it to the server's own file"
    problems = [
        *(Problem(("bundle",), f"{n} {both} {POLICY}") for n in DECIDING if n in document),
        *(Problem((), f"{name} {own}") for name in found if name not in DECIDING),
    ]
    return {**document, **{n: found[n] for n in DECIDING if n in found}}, present, problems


MIN_KEY_LENGTH = 16


def _digest_of(document: Tables) -> bytes:
    """Return the digest of the tables that decide; the order in each of them counts."""
    tables = [document.get(name) for name in DECIDING]
    return hashlib.sha256(json.dumps(tables, default=str).encode()).digest()


def _salvage(document: Tables) -> tuple[Document, list[Problem]]:
    """Return the tables of a document without the invalid keys, and the problems of those."""
    problems: list[Problem] = []
    rest: dict[str, Any] = dict(document)
    while True:
        try:
            return Document.model_validate(rest), problems
        except pydantic.ValidationError as error:
            # Further errors follow from the removal of keys.
            problems = problems or problems_of(error, Document)
            rest = copy.deepcopy(rest)
            for item in error.errors(include_url=False, include_context=False):
                _drop(rest, item["loc"])


def _drop(document: dict[Any, Any], key: Sequence[str | int]) -> None:
    """Remove the key at a place, or the innermost table on the way to it."""
    first, *rest = key
    inner = document.get(first)
    if rest and isinstance(inner, dict) and rest[0] in inner:
        _drop(inner, rest)
    else:
        document.pop(first, None)


def _unknown_environments(tables: Document) -> Iterator[Problem]:
    for plugin, table in tables.plugins.items():
        for number, name in enumerate(table.environments or ()):
            if name not in tables.environments:
                known = suggest(name, tables.environments)
                text = f"there is no table [environments.{name}]{known}"
                yield Problem(("plugins", plugin, "environments", number), text)


def _misplaced(tables: Document, document: Tables) -> Iterator[Problem]:
    """Yield a problem for each key that has no meaning at its place, or without another one."""
    for name, table in tables.endpoints.items():
        if table.default == "reject" and not ENDPOINTS[name].can_reject:
            yield Problem(
                ("endpoints", name, "default"), "Infinity has no reject here; leave it out"
            )
        if table.combine == "merge" and not ENDPOINTS[name].can_merge:
            yield Problem(("endpoints", name, "combine"), "these cannot be merged; leave it out")
    if tables.tls is not None and tables.tls.client_ca is None:
        for key in tables.tls.model_fields_set & {"client_certificate", "client_crl"}:
            yield Problem(("tls", "client_ca"), f"is missing: {key} has no effect without it")
    if extra := tables.infinity.extra_values:
        models = [model for one in ENDPOINTS.values() for model in one.decisions]
        fixed = map(enumerated_fields, map(contract_of, (*models, *SERVICE_TYPES.values())))
        known = {"service_type"}.union(*fixed)
        for field in extra.keys() - known:
            text = "no field with a fixed set of values has this name"
            yield Problem(("infinity", "extra_values", field), text + suggest(field, sorted(known)))
    if tables.admin.tls and "tls" not in document:
        yield Problem(("admin", "tls"), "needs a certificate: add [tls]")


def credentials_of(
    tables: Mapping[Key, AuthTable | CredentialTable | EventSourceTable], folder: Path
) -> tuple[dict[Key, Credential], list[Problem]]:
    """Return the credential of each table by its key, and a problem for each that cannot be read.

    Files are relative to ``folder``.
    """
    found: dict[Key, Credential] = {}
    problems: list[Problem] = []
    for key, table in tables.items():
        try:
            found[key] = Credential(table.user or "", secret_of(table, folder))
        except SecretError as error:
            problems.append(Problem((*key, error.key), str(error)))
    return found, problems


def secret_of(table: PasswordTable | EventSourceTable, folder: Path) -> SecretStr | PasswordHash:
    """Return the password or the hash of a user; raises ``SecretError``."""
    if (source := table.secret("password_hash")).places:
        return PasswordHash.parse(source.read(folder), source.key)
    if isinstance(table, PasswordTable) and table.password_hash is not None:
        return PasswordHash.parse(table.password_hash)
    return SecretStr(table.secret("password").read(folder))
