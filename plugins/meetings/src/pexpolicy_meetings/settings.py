"""Settings of ``meetings``: the tenants, what their booking systems may do, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from pexpolicy import (
    Conference,
    DecisionError,
    PluginSettings,
    Problem,
    Secret,
    SettingsError,
    Tenants,
)
from pexpolicy.config.schema.plugins import InfinityTable, TenantTable
from pexpolicy.endpoints.object_names import ObjectNames

Scope = Literal["meetings:read", "meetings:write", "pins:read", "live:read"]
MIN_KEY = 32
"""Characters of the key of the PINs, at least."""
MIN_RANDOM = 5
"""Random digits of an alias that is made, at least."""
OWN_FIELDS = {
    *("name", "service_tag", "service_type", "description", "pin", "guest_pin", "end_time"),
    *("allow_guests", "locked", "participant_limit", "primary_owner_email_address", "end_action"),
    *("breakout", "breakout_uuid", "breakout_name", "breakout_description", "breakout_uuids"),
    "breakout_guests_allowed_to_leave",
}
"""Fields of a service that follow from those of a meeting, or that no tenant may set."""


class TokenTable(PluginSettings):
    """A token of a booking system, made by ``pexpolicy meetings token``."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """Names it in the audit."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Its SHA-256, in hexadecimal digits."""
    scopes: Annotated[list[Scope], Field(min_length=1)]
    """What it may do."""
    expires: AwareDatetime | None = None
    """A time with an offset, after which it is wrong."""


class Tenant(TenantTable):
    """One tenant: which aliases its meetings may have, and the tokens of its booking systems."""

    domain: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)] = ""
    """The domain of aliases that are made. Default: that of the first pattern."""
    alias_prefix: Annotated[str, Field(pattern=r"^[a-z0-9._-]*$", max_length=32)] | None = None
    """The beginning of aliases that are made. Default: that of the first pattern."""
    alias_digits: Annotated[int, Field(ge=5, le=15)] = 9
    """Digits of an alias that is made, with those of the prefix; at least five are random."""
    defaults: dict[str, Any] = {}
    """Fields of its services, such as `ivr_theme_name`, which a meeting may replace."""
    tokens: list[TokenTable] = []
    """The tokens of its booking systems; several may be valid at a time."""


class MeetingsSettings(PluginSettings):
    """``[plugins.meetings.settings]``: the tenants, the key of the PINs, and what is kept."""

    tenants: Annotated[dict[str, Tenant], Field(min_length=1)]
    """By the names of `[tenants.NAME]`; with `tag` or `aliases`, a tenant of this table alone."""
    key: Secret | None = None
    """The key with which PINs are encrypted in the database, at least 32 characters. Without it,
    SQLite has one in the state folder; PostgreSQL needs it on each server.
    """
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days after its end, or after it was cancelled, that a meeting is deleted."""

    @model_validator(mode="after")
    def _has_long_key(self) -> Self:
        if self.key is not None and len(self.key.get_secret_value()) < MIN_KEY:
            text = f"key_file has less than {MIN_KEY} characters: make one by openssl rand -hex 32"
            raise ValueError(text)
        return self


class TenantOf:
    """A tenant as its meetings need it."""

    def __init__(self, name: str, table: Tenant, tenants: Tenants, infinity: InfinityTable) -> None:
        self.name = name
        self.infinity = infinity
        self.tag = tenants.tag(name)
        self.defaults = table.defaults
        self.tokens = table.tokens
        patterns = tenants.tables[name].aliases
        first = patterns[0] if patterns else ""
        user, _, host = first.partition("@")
        start = user.partition("*")[0]
        self.prefix = start if table.alias_prefix is None else table.alias_prefix
        self.domain = table.domain or ("" if "*" in host else host)
        known = sum(character.isdigit() for character in self.prefix)
        self.digits = max(table.alias_digits - known, MIN_RANDOM)
        """Random digits of an alias that is made."""
        self._tenants = tenants

    def may_use(self, alias: str) -> bool:
        """Return whether its meetings may have an alias."""
        return self._tenants.of(alias) == self.name

    def alias(self, digits: str) -> str:
        """Return an alias that is made, with these digits at its end."""
        return f"{self.prefix}{digits}@{self.domain}" if self.domain else self.prefix + digits


def known_tenants(settings: MeetingsSettings) -> tuple[Tenants, dict[str, TenantOf]]:
    """Return all tenants, and those that have meetings by name; raises ``SettingsError``."""
    tenants = Tenants.known(settings, settings.tenants)
    infinity = settings.of_config("infinity") or InfinityTable()
    found = {name: TenantOf(name, one, tenants, infinity) for name, one in settings.tenants.items()}
    problems: list[Problem] = []
    digests: dict[str, str] = {}
    for name, table in settings.tenants.items():
        key = ("tenants", name)
        made = found[name].alias("0" * found[name].digits)
        if not tenants.tables[name].aliases:
            problems.append(Problem((*key, "aliases"), "is empty: write those that it may use"))
        elif not found[name].may_use(made):
            text = f"{made} would be made, and is none of its aliases: write alias_prefix and"
            text += " domain, or first a pattern such as 8*@acme.example.com"
            problems.append(Problem((*key, "alias_prefix"), text))
        for number, token in enumerate(table.tokens):
            if token.sha256 in digests:
                text = f"is that of the token {digests[token.sha256]} too"
                problems.append(Problem((*key, "tokens", number, "sha256"), text))
            digests[token.sha256] = f"{name}/{token.name}"
        if len({token.name for token in table.tokens}) < len(table.tokens):
            problems.append(Problem((*key, "tokens"), "two have one name"))
        for place, text in service_problems(table.defaults, infinity):
            problems.append(Problem((*key, "defaults", *place), text))
    if problems:
        raise SettingsError(problems=problems)
    return tenants, found


def service_problems(
    fields: Mapping[str, Any], infinity: InfinityTable
) -> list[tuple[tuple[str | int, ...], str]]:
    """Return what is wrong with fields of a service that a tenant sets, each with its key."""
    own = sorted(OWN_FIELDS & fields.keys())
    found: list[tuple[tuple[str | int, ...], str]] = [
        ((name,), "follows from the meeting, and cannot be set") for name in own
    ]
    rest = {name: value for name, value in fields.items() if name not in OWN_FIELDS}
    whole = {"name": "x", "service_tag": "", **rest}
    if issues := Conference.find_issues(whole, infinity.extras):
        return [*found, *((one.key, one.rule) for one in issues)]
    conference = Conference.from_result(whole, extras=infinity.extras)
    try:
        ObjectNames(infinity.names).check(conference)
    except DecisionError as error:
        # The text of the error suggests others, which may be those of other tenants.
        found.append((error.refusal.key, "is no name that Infinity has"))
    return found
