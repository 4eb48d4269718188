"""Schema of ``[plugins.NAME]``, ``[endpoints.NAME]``, ``[tenants.NAME]``, ``[infinity]`` and
``[environments.NAME]``.

The types for a plugin's own settings (``PluginSettings``, ``ConfigPath``) are in
``config/plugin_settings.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr

from pexpolicy.config.schema import MAX_BUDGET, Table, Text
from pexpolicy.config.schema.server import Level, Network, User
from pexpolicy.models.alias import checked_alias, composed_text
from pexpolicy.models.contract import Extras

Variable = Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*|\*)$")]


class PluginTable(Table):
    """``[plugins.NAME]``: how a plugin is called, and its own ``settings``. Times in seconds."""

    plugin: Text | None = None
    """The plugin, if NAME is the name of an instance: `PLUGIN`, or `DISTRIBUTION:PLUGIN`."""
    priority: int = 100
    """The lowest is asked first; equal ones are asked in the order of the file."""
    mode: Literal["decide", "shadow"] = "decide"
    """`"shadow"`: the plugin is asked after the reply was sent, and an audit line has the decision
    that it would have made. Its answers are not sent.
    """
    isolation: Literal["none", "process"] = "none"
    """Where its code runs. `"process"`: in worker processes of its own, which are killed and
    replaced when they exceed their time, see [failures.md](failures.md)
    """
    processes: int = Field(2, ge=1, le=64)
    """Number of workers with `isolation = "process"`; each answers one call at a time, 32 more may
    queue, and a further call is *busy* at once.
    """
    memory_mb: int = Field(512, ge=64)
    """Memory in MiB of one worker with `isolation = "process"`; one that uses more is replaced."""
    env: list[Variable] = []
    """Environment variables that workers get, besides those of the system (`PATH`, `HOME`, `LANG`,
    `TZ`, `PYTHON*`, …) and those that the settings name in keys such as `token_env`. `["*"]`:
    all.
    """
    breaker: bool = False
    """Circuit breaker: a plugin that fails 5 times within 30 s is not asked for 30 s, see below."""
    timeout: float = Field(1.0, ge=0.001, le=MAX_BUDGET)
    """Seconds for one answer of this plugin, inside `server.budget`."""
    on_error: Literal["skip", "reject"] = "skip"
    """What happens when the plugin fails. See below."""
    may_admit: bool = False
    """Whether the plugin may, where it [adjusts](plugins/hooks.md#adjusting-a-decision) the
    decision of another plugin, turn a reject into an admission, and remove a PIN, an identity
    provider group or credentials.
    """
    threads: int = Field(8, ge=1, le=256)
    """Threads for hooks that block (plain `def`); when all are in use, 32 more calls wait within
    the `timeout`, and a further one is *busy* at once.
    """
    environments: list[str] | None = Field(None, min_length=1)
    """Names of `[environments]`: the plugin is asked about their calls only, and is told of their
    decisions and events only. Default: all calls, those of no environment too.
    """
    log_level: Level | None = None
    """Lowest level of the log lines of this plugin and of the libraries that it calls; unset:
    `log.level`.
    """
    settings: dict[str, Any] = {}
    """Belongs to the plugin; its README names the keys."""

    _known: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def known(self) -> Mapping[str, Any]:
        """What other tables tell the plugin, by its name in the context of settings."""
        return self._known

    def is_asked_in(self, environment: str | None) -> bool:
        """Return whether it is asked about the calls of an environment, or of none."""
        return self.environments is None or environment in self.environments

    def with_context(self, log_level: Level, **known: object) -> Self:
        """Return a copy with what other tables tell the plugin, and a level of its log lines."""
        table = self.model_copy(update={"log_level": self.log_level or log_level})
        table._known = known  # noqa: SLF001 - of the same class
        return table


class SourceTable(Table):
    """``[sources.NAME]``: what plugins share. Its other keys are the settings of the driver."""

    model_config = ConfigDict(extra="allow")

    driver: Text
    """The name of an installed driver, such as `sql`, `ldap`, `http` or `file`."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the driver."""
        return self.model_extra or {}


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
Word = Annotated[str, Field(min_length=1, max_length=250)]
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


def _alias_pattern(written: str) -> str:
    """Return an alias, or a pattern in the normal form of aliases; raises ``ValueError``."""
    if "*" not in written:
        return checked_alias(written)
    if "?" in written or ":" in written or any(map(str.isspace, written)):
        raise ValueError(
            f"{written!r} matches no alias: in a pattern only * is special, and aliases have no "
            "scheme, port, parameter or blank here"
        )
    return composed_text(written.lower())


AliasPattern = Annotated[Word, AfterValidator(_alias_pattern)]
"""An alias in its normal form, or a pattern of aliases in which ``*`` is any text."""


class TenantTable(Table):
    """``[tenants.NAME]``: one customer or department, and what tells its calls from others."""

    tag: Word | None = None
    """The `service_tag` of its services, or one of the parts of it that `&` separates. Default:
    `t=NAME`.
    """
    aliases: list[AliasPattern] = []
    """Its aliases, for services without the tag of a tenant. In a pattern, such as
    `*@acme.example.com`, `*` is any text; the longest pattern that matches counts.
    """


class EndpointTable(Table):
    """``[endpoints.NAME]``: the default when no plugin decides, and what several answers make."""

    default: Literal["continue", "reject"] = "continue"
    """`"continue"`: Infinity does what it would do without a policy server. `"reject"`: the call,
    participant or registration is refused; only for the three requests that have a reject.
    """
    combine: Literal["first", "merge"] = "first"
    """`"first"`: the first decision is the reply. `"merge"`, for `participant_properties` only:
    every plugin is asked, see below.
    """


Listed = list[str] | None
"""Names of one kind, if they are listed."""


class ObjectLists(Table):
    """Names of objects of Infinity; an unlisted name of a listed kind is invalid."""

    source: Text | None = None
    """NAME of a table `[sources.NAME]` that lists the names of Infinity, as the driver `infinity`
    does. An unknown name is then a warning; lists that are written here win.
    """
    locations: Listed = None
    """`location`, `overflow_locations`, `outgoing_location_name`, `system_location_name`."""
    themes: Listed = None
    """`ivr_theme_name`."""
    identity_provider_groups: Listed = None
    """`host_identity_provider_group`, `guest_identity_provider_group`."""
    h323_gatekeepers: Listed = None
    """`h323_gatekeeper_name`."""
    sip_proxies: Listed = None
    """`sip_proxy_name`."""
    mssip_proxies: Listed = None
    """`mssip_proxy_name`."""
    teams_proxies: Listed = None
    """`teams_proxy_name`."""
    stun_servers: Listed = None
    """`stun_server_name`."""
    turn_servers: Listed = None
    """`turn_server_name`."""
    gms_access_tokens: Listed = None
    """`gms_access_token_name`."""
    media_playlists: Listed = None
    """`media_playlist_name`."""

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """The names of objects, by listed kind."""
        kinds = ObjectLists.model_fields.keys() - {"source"}
        written = ((kind, getattr(self, kind)) for kind in sorted(kinds))
        return {kind: frozenset(names) for kind, names in written if names is not None}


class InfinityTable(ObjectLists):
    """``[infinity]``: what Infinity knows."""

    min_pin_length: int = Field(6, ge=4, le=20)
    """The shortest PIN that the global settings of Infinity allow, including a `#` at the end;
    `check` warns about shorter ones.
    """
    extra_fields: list[Name] = []
    """Fields that Infinity knows and this release does not."""
    extra_values: dict[Name, list[Word]] = {}
    """Further values of fields with a fixed set of values, and of `service_type`."""

    @property
    def extras(self) -> Extras:
        """Fields and values that this release does not know and sends."""
        values = {name: frozenset(words) for name, words in self.extra_values.items()}
        return Extras(frozenset(self.extra_fields), values)


class EnvironmentTable(Table):
    """``[environments.NAME]``: one platform of several, and what tells its calls from others."""

    networks: list[Network] = []
    """Networks of its nodes, such as `10.44.0.0/16` or a single address; the smallest network with
    the address of a call counts.
    """
    credentials: list[User] = []
    """Users of `[auth]` that its policy profiles send. They count before addresses do."""
    events: Text | None = None
    """The source of its events: NAME of a table `[events.NAME]`, or `default`. Default: that of its
    own name if there is one, else `default`.
    """
    infinity: ObjectLists = ObjectLists()
    """Names of its objects, as in `[infinity]`; a list or `source` here replaces the one there."""
