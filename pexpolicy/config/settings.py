"""The settings of a server, and the errors of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from pexpolicy.config.credentials import Credential
from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.schema.access import AccessTable, LimitsTable, TlsTable
from pexpolicy.config.schema.audit import AuditTable, PrivacyTable
from pexpolicy.config.schema.plugins import EndpointTable, PluginTable
from pexpolicy.config.schema.server import AdminTable, ServerTable, TracingTable
from pexpolicy.models.extras import NO_EXTRAS, Extras


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


class PluginStartupError(ConfigError):
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

    _extras: Extras = PrivateAttr(NO_EXTRAS)

    @model_validator(mode="after")
    def _admits(self, info: ValidationInfo) -> Self:
        self._extras = (info.context or {}).get("extras", NO_EXTRAS)
        return self

    @property
    def extras(self) -> Extras:
        """What ``[infinity]`` admits beyond the contract, for decisions that a plugin makes of its
        settings.
        """
        return self._extras


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
    extras: Extras = NO_EXTRAS
    min_pin_length: int = 6
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
