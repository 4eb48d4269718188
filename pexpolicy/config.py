"""The configuration file: TOML to frozen settings; strict, and with all errors at once."""

from __future__ import annotations

import copy
import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationInfo

from pexpolicy.access.credentials import Credential
from pexpolicy.access.reading import credentials_of, secret_files_of
from pexpolicy.packing import repacked
from pexpolicy.problems import Key, Problem, problems_of
from pexpolicy.progress import Stage, silent
from pexpolicy.sources import SecretSource, UnreadableError
from pexpolicy.tables import (
    AccessTable,
    AdminTable,
    AuditTable,
    Document,
    EndpointName,
    EndpointTable,
    LimitsTable,
    PluginTable,
    PrivacyTable,
    ServerTable,
    TlsTable,
    TracingTable,
)

LARGE = 1_000_000
"""Characters of a configuration that is worth packing anew."""


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds every reason that was found.

    ``salvaged`` is what is left of it without the keys that are wrong, to look for further reasons.
    ``files`` are those that were read for it, by whoever noted them.
    """

    def __init__(
        self, path: Path, problems: Sequence[Problem], salvaged: Settings | None = None
    ) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.path = path
        self.salvaged = salvaged
        self.files: tuple[Path, ...] = ()
        self.problems = tuple(problems)


class OpeningError(ConfigError):
    """What a plugin needs does not open, such as a database that is down; later it may."""


class SettingsError(ValueError):
    """Raised by a plugin that is being built: its settings are of the right types and still wrong.

    ``problems`` are relative to the plugin's settings; ``SettingsError("text", key=("rooms",
    "x"))`` is one of them.
    """

    def __init__(self, *texts: str, key: Key = (), problems: Sequence[Problem] = ()) -> None:
        self.problems = (*problems, *(Problem(key, text) for text in texts))
        super().__init__("; ".join(str(problem) for problem in self.problems))


class PluginSettings(BaseModel):
    """The base of a plugin's ``Settings``: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _beside_the_configuration(written: Any, info: ValidationInfo) -> Any:
    root: Path = (info.context or {}).get("root", Path())
    return root / written if isinstance(written, str) else written


ConfigPath = Annotated[Path, BeforeValidator(_beside_the_configuration)]
"""A setting of a plugin that names a file, relative to the configuration file."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, checked; passwords are read, paths are absolute."""

    path: Path
    config_hash: str
    server: ServerTable
    audit: AuditTable
    endpoints: Mapping[str, EndpointTable]
    infinity: Mapping[str, frozenset[str]]
    plugins: Mapping[str, PluginTable]
    plugin_dirs: tuple[Path, ...] = ()
    credentials: tuple[Credential, ...] = ()
    access: AccessTable = field(default_factory=AccessTable)
    tls: TlsTable | None = None
    limits: LimitsTable = field(default_factory=LimitsTable)
    privacy: PrivacyTable = field(default_factory=PrivacyTable)
    privacy_key: SecretStr | None = field(default=None, repr=False)
    admin: AdminTable = field(default_factory=AdminTable)
    admin_token: SecretStr | None = field(default=None, repr=False)
    tracing: TracingTable | None = None
    secret_files: tuple[Path, ...] = ()
    sign_key: SecretStr | None = field(default=None, repr=False)
    wrong: frozenset[str | int] = frozenset()
    """Tables with errors, where these settings are what is left of a broken file."""

    def resolve(self, path: str) -> Path:
        """A path in the configuration, relative to the file that it stands in."""
        return self.path.parent / path


def load(path: Path, stage: Stage = silent, *, content: bytes | None = None) -> Settings:
    """Read and check a configuration file; raises ``ConfigError`` with everything that is wrong.

    ``content`` is what it holds, for somebody who has read it already.
    """
    try:
        content = path.read_bytes() if content is None else content
        stage(f"reading {path.name}, {len(content) / 1e6:.1f} MB")
        document = _parsed(content.decode("utf-8-sig"), path)
    except OSError as error:
        raise ConfigError(path, [Problem((), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Problem((), f"is not UTF-8 text (byte {error.start})")]) from None
    stage(f"checking {path.name}")
    return from_document(document, path, hashlib.sha256(content).hexdigest()[:16])


def _parsed(content: str, path: Path) -> dict[str, Any]:
    """The document; a large one without the holes that parsing leaves in memory.

    What is built of 100,000 rooms would be strewn over the holes, and pin three times its size.
    """
    try:
        if len(content) < LARGE:
            return tomllib.loads(content)
        return repacked(tomllib.loads(content))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        from pexpolicy.untoml import hint, plainly  # noqa: PLC0415 - patterns for broken files only

        why = plainly(str(error)) + hint(str(error), content)
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
        except UnreadableError as error:
            problems.append(Problem((table, error.key), str(error)))
            return None

    key = read("privacy", privacy.secret("key"))
    token = read("admin", admin.secret("token"))
    sign_key = read("audit", audit.secret("sign_key"))
    settings = Settings(
        path=path,
        config_hash=config_hash,
        server=tables.server,
        audit=audit,
        endpoints=dict(tables.endpoints.items()),
        infinity={kind: frozenset(names) for kind, names in tables.infinity if names is not None},
        plugins=tables.plugins,
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
        if table.default == "reject"
        and name in ("media_location", "participant_avatar", "directory_information")
    ]


def _unsigned(tls: TlsTable | None, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Who writes that clients show certificates must not believe so without an authority."""
    key = ("tls", "client_ca")
    if tls is None or tls.client_ca is not None or any(problem.key == key for problem in problems):
        return
    if "client_certificate" in tls.model_fields_set:
        yield Problem(key, "is missing: client_certificate has no effect without it")
