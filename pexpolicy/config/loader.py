"""The configuration file: TOML to frozen settings; strict, and with all errors at once."""

from __future__ import annotations

import copy
import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from pydantic import SecretStr

from pexpolicy.config.compaction import compact_copy
from pexpolicy.config.credentials import credentials_of, secret_files_of
from pexpolicy.config.encodings import EncodingError, decoded
from pexpolicy.config.problems import Key, Problem, problems_of
from pexpolicy.config.progress import Stage, silent
from pexpolicy.config.schema.access import TlsTable
from pexpolicy.config.schema.base import EndpointName
from pexpolicy.config.schema.document import Document
from pexpolicy.config.schema.plugins import EndpointTable
from pexpolicy.config.secrets import SecretError, SecretSource
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.config.signing_key import InvalidKeyError, private_key
from pexpolicy.endpoints import ENDPOINTS

LARGE = 1_000_000
"""Characters of a configuration that is worth packing anew."""


def load(path: Path, stage: Stage = silent, *, content: bytes | None = None) -> Settings:
    """Read and check a configuration file; raises ``ConfigError`` with everything that is wrong.

    ``content`` is what it holds, for somebody who has read it already.
    """
    try:
        content = path.read_bytes() if content is None else content
        stage(f"reading {path.name}, {len(content) / 1e6:.1f} MB")
        document = _parsed(decoded(content), path)
    except OSError as error:
        raise ConfigError(path, [Problem((), f"cannot be read: {error.strerror}")]) from None
    except EncodingError as error:
        raise ConfigError(path, [Problem((), str(error))]) from None
    stage(f"checking {path.name}")
    return from_document(document, path, hashlib.sha256(content).hexdigest()[:16])


def _parsed(content: str, path: Path) -> dict[str, Any]:
    """The document; a large one without the holes that parsing leaves in memory.

    What is built of 100,000 rooms would be strewn over the holes, and pin three times its size.
    """
    try:
        if len(content) < LARGE:
            return tomllib.loads(content)
        return compact_copy(tomllib.loads(content))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        from pexpolicy.config.toml_hints import clean_message, suggest_fix  # noqa: PLC0415 - patterns for broken files only

        why = clean_message(str(error)) + suggest_fix(str(error), content)
        raise ConfigError(path, [Problem((), f"is not valid TOML: {why}")]) from None


def from_document(document: Mapping[str, Any], path: Path, config_hash: str) -> Settings:
    """Check a parsed configuration; raises ``ConfigError`` with everything that is wrong."""
    tables, problems = _salvage(document)
    problems += [*_unrejectable(tables.endpoints), *_unsigned(tables.tls, problems)]
    privacy, admin, audit = tables.privacy, tables.admin, tables.audit
    credentials, unread = credentials_of(tables.auth, path.parent)
    problems += unread

    def read(table: str, source: SecretSource) -> SecretStr | None:
        try:
            return SecretStr(source.read(path.parent)) if source.places else None
        except SecretError as error:
            problems.append(Problem((table, error.key), str(error)))
            return None

    key = read("privacy", privacy.secret("key"))
    token = read("admin", admin.secret("token"))
    sign_key = read("audit", audit.secret("sign_key"))
    if sign_key is not None:
        try:
            private_key(sign_key.get_secret_value())
        except InvalidKeyError as error:
            problems.append(Problem(("audit", audit.secret("sign_key").key), str(error)))
    settings = Settings(
        path=path,
        config_hash=config_hash,
        server=tables.server,
        audit=audit,
        endpoints=dict(tables.endpoints.items()),
        infinity=tables.infinity.names,
        extras=tables.infinity.extras,
        min_pin_length=tables.infinity.min_pin_length,
        plugins={
            name: table.admitting(tables.infinity.extras) for name, table in tables.plugins.items()
        },
        plugin_dirs=tuple(path.parent / directory for directory in tables.plugin_dirs),
        credentials=credentials,
        access=tables.access,
        tls=tables.tls,
        limits=tables.limits,
        privacy=privacy,
        privacy_key=key,
        admin=admin,
        admin_token=token,
        tracing=tables.tracing,
        secret_files=tuple(
            path.parent / file
            for file in (*secret_files_of(tables.auth), privacy.key_file, admin.token_file)
            if file is not None
        ),
        sign_key=sign_key,
        wrong=frozenset(problem.key[0] for problem in problems),
    )
    if problems:
        raise ConfigError(path, problems, settings)
    return settings


def _salvage(document: Mapping[str, Any]) -> tuple[Document, list[Problem]]:
    """The tables of a document without the keys that are wrong, and what is wrong with those."""
    problems: list[Problem] = []
    rest: dict[str, Any] = dict(document)
    while True:
        try:
            return Document.model_validate(rest), problems
        except pydantic.ValidationError as error:
            # What is wrong with the rest follows from what was taken out.
            problems = problems or problems_of(error, Document)
            rest = copy.deepcopy(rest)
            for item in error.errors(include_url=False, include_context=False):
                _drop(rest, item["loc"])


def _drop(document: dict[str, Any], key: Key) -> None:
    """Take out the innermost table or key on the way to a place that holds it."""
    here: Any = document
    for number, part in enumerate(key):
        inner = here.get(part) if isinstance(here, dict) else None
        if number == len(key) - 1 or not isinstance(inner, dict) or key[number + 1] not in inner:
            if isinstance(here, dict):
                here.pop(part, None)
            return
        here = inner


def _unrejectable(endpoints: Mapping[EndpointName, EndpointTable]) -> list[Problem]:
    return [
        Problem(("endpoints", name, "default"), "Infinity knows no reject here; leave it out")
        for name, table in endpoints.items()
        if table.default == "reject" and not ENDPOINTS[name].can_reject
    ]


def _unsigned(tls: TlsTable | None, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Who writes that clients show certificates must not believe so without an authority."""
    key = ("tls", "client_ca")
    if tls is None or tls.client_ca is not None or any(problem.key == key for problem in problems):
        return
    if "client_certificate" in tls.model_fields_set:
        yield Problem(key, "is missing: client_certificate has no effect without it")
