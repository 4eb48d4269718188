"""Hook specifications: the whole contract of a plugin on one page.

A plugin is a class that an entry point of the group ``pexpolicy`` names. Its hooks are the methods
of ``Plugin`` that a subclass overrides, or in another class those with ``@hookimpl``. ``async def``
is for code that awaits or answers at once; plain ``def`` for code that blocks, in the plugin's own
threads.

For each request the plugins are asked one after the other, the lowest ``priority`` first. ``None``
means *not mine, ask the next*; anything else is the decision: one of the classes named here, or a
dictionary that is used as ``result``. ``Continue`` is a decision too: Infinity then does what it
would do without a policy server. Then the ``adjust_`` hooks of the endpoint are asked in the same
order. Each is given the decision so far, and ``None`` leaves it as it is. Last of all, and always,
the ``restrict_`` hooks are asked: they may only narrow the decision.

A hook has the plugin's ``timeout`` (1 s), inside the budget of the whole call (4 s). When it
raises, is late or answers what Infinity would drop, the plugin's ``on_error`` decides what follows.
"""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, get_args, get_origin

import pluggy
from typing_extensions import TypeVar

from pexpolicy.config.plugin_settings import PluginSettings

if TYPE_CHECKING:
    from aiohttp import web

    from pexpolicy.config.problems import ConfigWarning, Key
    from pexpolicy.endpoints.directory_information import (
        Directory,
        DirectoryEntry,
        DirectoryInformationRequest,
    )
    from pexpolicy.endpoints.media_location import MediaLocation, MediaLocationRequest
    from pexpolicy.endpoints.participant_avatar import Avatar, ParticipantAvatarRequest
    from pexpolicy.endpoints.participant_properties import (
        ParticipantProperties,
        ParticipantPropertiesRequest,
    )
    from pexpolicy.endpoints.registration_alias import Credentials, RegistrationAliasRequest
    from pexpolicy.endpoints.service_configuration import ServiceConfigurationRequest
    from pexpolicy.endpoints.service_types import Service
    from pexpolicy.models.decision import Continue, Decision, Redirect, Reject
    from pexpolicy.models.event import Event
    from pexpolicy.models.outcome import Outcome

T = TypeVar("T")
S = TypeVar("S", bound=PluginSettings, default=PluginSettings)
Result = Mapping[str, Any]
MaybeAwaitable: TypeAlias = T | Awaitable[T]
"""What a plain ``def`` returns, or an ``async def``."""

HOOK_API = 1
"""The version of the hooks. A plugin whose class has ``pexpolicy_api = 2`` needs a newer
pexpolicy.
"""

hookspec = pluggy.HookspecMarker("pexpolicy")
hookimpl = pluggy.HookimplMarker("pexpolicy")
SPEC_MARK, IMPL_MARK = "pexpolicy_spec", "pexpolicy_impl"
"""Attributes of a hook specification, and of an implementation."""


if TYPE_CHECKING:

    class _PluginType(ABCMeta):
        """Tells type checkers which ``Settings`` a ``Plugin[...]`` has."""

        @property
        def Settings(cls: type[Plugin[S]]) -> type[S]:  # type: ignore[misc]  # noqa: N802
            """The class of the settings."""

else:
    _PluginType = type


class Plugin(Generic[S], metaclass=_PluginType):
    """The base of a plugin with these settings; each hook is a method to override.

    With ``@override`` a type checker finds a hook that does not exist::

        class Settings(PluginSettings):
            location: str


        class Nearest(Plugin[Settings]):
            @override
            async def media_location(self, request: MediaLocationRequest) -> MediaLocation | None:
                return MediaLocation(location=self.settings.location)

    ``can_reject``, an attribute or a property, says whether the plugin rejects calls; without it,
    that is guessed.
    """

    if not TYPE_CHECKING:
        Settings = PluginSettings
        """The class of the settings, taken from ``Plugin[...]``."""
    else:
        pexpolicy_api: ClassVar[int]
        """The version of the hooks that the plugin needs, ``HOOK_API`` at most."""

    settings: S

    def __init__(self, settings: S) -> None:
        """Keep the settings. A subclass may prepare more here; it does no I/O."""
        self.settings = settings

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the settings from ``Plugin[...]``, and mark the overridden hooks."""
        super().__init_subclass__(**kwargs)
        if "Settings" not in vars(cls):
            for base in vars(cls).get("__orig_bases__", ()):
                kind, given = get_origin(base), get_args(base)
                models = [c for c in given if isinstance(c, type) and issubclass(c, PluginSettings)]
                if models and issubclass(kind or object, Plugin):
                    setattr(cls, "Settings", models[0])  # noqa: B010 - read-only for type checkers
                elif kind is Plugin and not isinstance(given[0], TypeVar):
                    raise TypeError(f"{cls.__name__}: Plugin[...] takes a PluginSettings class")
        for name, specification in HOOKS.items():
            method = getattr(cls, name)
            if method is not specification and inspect.isroutine(method):
                function = getattr(method, "__func__", method)
                if not hasattr(function, IMPL_MARK):
                    hookimpl(function)

    @hookspec(firstresult=True)
    def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> MaybeAwaitable[Service | Continue | Reject | Redirect | Result | None]:
        """Which service does the dialed alias lead to?

        Asked for each incoming call, twice for a web join, before Infinity dials out, and for each
        breakout room. The call waits for the answer, and must get the same one each time.
        """

    @hookspec(firstresult=True)
    def participant_properties(
        self, request: ParticipantPropertiesRequest
    ) -> MaybeAwaitable[ParticipantProperties | Continue | Reject | Result | None]:
        """Who may join, as what, and under which name?

        Asked for each participant, after the service is known. Web apps: after PIN or single
        sign-on, with role and ``idp_attributes``. SIP and H.323: before the PIN, with
        ``preauthenticated_role`` unset.
        """

    @hookspec(firstresult=True)
    def media_location(
        self, request: MediaLocationRequest
    ) -> MaybeAwaitable[MediaLocation | Continue | Result | None]:
        """Which system location handles the media of this participant?

        A location name that Infinity does not know voids the whole answer.
        """

    @hookspec(firstresult=True)
    def participant_avatar(
        self, request: ParticipantAvatarRequest
    ) -> MaybeAwaitable[Avatar | Continue | bytes | None]:
        """Which picture belongs to ``request.alias``?

        The picture may be a JPEG, PNG, GIF, WebP or BMP of any size; it is scaled to fit.
        """

    @hookspec(firstresult=True)
    def directory_information(
        self, request: DirectoryInformationRequest
    ) -> MaybeAwaitable[Directory | Continue | list[DirectoryEntry] | Result | None]:
        """Which phone book entries match the search text ``request.q``?

        Asked while the user types, with a single letter or an empty text too. Entries after
        ``limit`` are removed.
        """

    @hookspec(firstresult=True)
    def registration_alias(
        self, request: RegistrationAliasRequest
    ) -> MaybeAwaitable[Credentials | Continue | Reject | Result | None]:
        """May a device register as ``request.alias``, and with which credentials?

        ``Continue`` lets Infinity's own database decide.
        """

    @hookspec
    def adjust_service_configuration(
        self, request: ServiceConfigurationRequest, decision: Service | Continue | Reject | Redirect
    ) -> MaybeAwaitable[Service | Continue | Reject | Redirect | Result | None]:
        """What changes in the service that another plugin chose?

        ``decision`` is what Infinity would be sent, often a service: ``decision.replace(...)``
        returns the same with other fields.
        """

    @hookspec
    def adjust_participant_properties(
        self,
        request: ParticipantPropertiesRequest,
        decision: ParticipantProperties | Continue | Reject,
    ) -> MaybeAwaitable[ParticipantProperties | Continue | Reject | Result | None]:
        """What changes in the properties of the participant?"""

    @hookspec
    def adjust_media_location(
        self, request: MediaLocationRequest, decision: MediaLocation | Continue
    ) -> MaybeAwaitable[MediaLocation | Continue | Result | None]:
        """Which other location handles the media?"""

    @hookspec
    def adjust_participant_avatar(
        self, request: ParticipantAvatarRequest, decision: Avatar | Continue
    ) -> MaybeAwaitable[Avatar | Continue | bytes | None]:
        """Which other picture is shown?"""

    @hookspec
    def adjust_directory_information(
        self, request: DirectoryInformationRequest, decision: Directory | Continue
    ) -> MaybeAwaitable[Directory | Continue | list[DirectoryEntry] | Result | None]:
        """Which of the found entries are shown?"""

    @hookspec
    def adjust_registration_alias(
        self, request: RegistrationAliasRequest, decision: Credentials | Continue | Reject
    ) -> MaybeAwaitable[Credentials | Continue | Reject | Result | None]:
        """What changes in the answer to a device that registers?"""

    @hookspec
    def restrict_service_configuration(
        self, request: ServiceConfigurationRequest, decision: Service | Continue | Reject | Redirect
    ) -> MaybeAwaitable[Service | Reject | Result | None]:
        """How is the service of this call narrowed?

        Asked last and always: ``decision`` is the final one, and may be that of no plugin or a
        reject. A ``Continue`` has no result, so it can only be rejected, or replaced by a
        ``MediaPlayback``.
        """

    @hookspec
    def restrict_participant_properties(
        self,
        request: ParticipantPropertiesRequest,
        decision: ParticipantProperties | Continue | Reject,
    ) -> MaybeAwaitable[ParticipantProperties | Reject | Result | None]:
        """Which rights are taken from the participant?

        Asked last and always, as ``restrict_service_configuration`` is. For a ``Continue``, answer
        ``ParticipantProperties`` with what is restricted.
        """

    @hookspec
    def lifespan(self) -> AbstractAsyncContextManager[None]:  # type: ignore[empty-body]
        """Open what the plugin needs: files, sockets, pools.

        An ``@asynccontextmanager`` method, entered before the first call and left after the last.
        All I/O belongs here; building the class does none, except for reading the files that
        ``tracked_files`` names. At a reload the new instance is opened while the old one still
        answers, and each worker process has its own: bind no port, and lock no file.
        """

    @hookspec
    def on_decision(self, outcome: Outcome) -> MaybeAwaitable[None]:
        """Observe each decision: for counters, web hooks and messages.

        Called after the reply has left, for each call of each endpoint, one after the other, with
        the plugin's timeout. When it raises or is late, it is called again, so it may see a
        decision twice. When 10,000 decisions wait, further ones are dropped, counted and logged.
        """

    @hookspec
    def on_decisions(self, outcomes: Sequence[Outcome]) -> MaybeAwaitable[None]:
        """Observe decisions in batches: what waits, up to 100 at once.

        As ``on_decision``, of which a plugin has one or the other.
        """

    @hookspec
    def on_event(self, event: Event) -> MaybeAwaitable[None]:
        """Observe what happens in the conferences: each event that nodes send to ``[events]``.

        In one process of all workers and servers at a time, in order for each node, one after the
        other, with the plugin's timeout. When it raises or is late, it is called again, so it may
        see an event twice. One that it cannot take for 10 minutes is dropped, counted and logged.
        """

    @hookspec
    def on_events(self, events: Sequence[Event]) -> MaybeAwaitable[None]:
        """Observe events in batches: what waits, up to 100 at once.

        As ``on_event``, of which a plugin has one or the other.
        """

    @hookspec
    def static_decisions(self) -> Iterable[tuple[Key, Decision]]:  # type: ignore[empty-body]
        """Return the decisions that never change, each with the settings key that it comes from.

        They are compared with the names in ``[infinity]``. Called once when the policy is built.
        """

    @hookspec
    def config_warnings(self) -> Iterable[ConfigWarning]:  # type: ignore[empty-body]
        """Return warnings about a configuration that is valid but doubtful.

        Called once when the policy is built; does no I/O.
        """

    @hookspec
    def status(self) -> MaybeAwaitable[Mapping[str, object]]:  # type: ignore[empty-body]
        """Return what operators should see of the running plugin: sizes, connections, counters.

        Called for ``/status``, with one second. Include no names of people and no secrets.
        """

    @hookspec
    def checks(self) -> MaybeAwaitable[Iterable[tuple[str, bool, str]]]:  # type: ignore[empty-body]
        """Return what ``pexpolicy doctor`` shows of the plugin: name, whether it is right, a text.

        For what can only be tried, such as whether a server accepts the credentials. Called with 5
        seconds on an instance that is not open; the texts are shown, so they hold no secrets.
        """

    @hookspec
    def routes(self) -> Iterable[web.RouteDef]:  # type: ignore[empty-body]
        """Return HTTP routes to serve on the admin listener, below ``/plugins/NAME/``.

        ``aiohttp.web.get("/rooms/{id}", self.show)`` serves ``/plugins/NAME/rooms/{id}`` to clients
        with a token of ``[admin]``. A request has 9 seconds and a body of at most 64 KiB, and one
        worker process answers it. Called once when the policy is built; does no I/O.
        """

    @hookspec
    def api_routes(self) -> Iterable[web.RouteDef]:  # type: ignore[empty-body]
        """Return HTTP routes to serve on the listener of ``[api]``, with their whole paths.

        ``aiohttp.web.get("/api/v1/rooms/{id}", self.show)``. Each worker process answers; a request
        has 9 seconds and a body of at most 64 KiB. The plugin authenticates: the reply to a wrong
        token is a 401, which is slowed down, recorded, and gets ``WWW-Authenticate: Bearer``.
        ``record_change`` writes a line of the audit. Called once when the policy is built; does no
        I/O.
        """

    @hookspec
    def changes_since(self, previous: Any) -> Iterable[str]:  # type: ignore[empty-body]
        """Return what changed since ``previous``, the plugin of the configuration before.

        ``previous`` still answers calls, so read it only. The texts are shown and logged, so they
        hold no secrets; ``named_changes(before, after)`` makes them of two mappings. Called at a
        reload, before the plugin is opened; not for a plugin in processes of its own.
        """

    @hookspec
    def coverage_items(self) -> Iterable[tuple[Any, ...]]:  # type: ignore[empty-body]
        """Return what the plugin decides by: kind, name, and the decision or its reason.

        ``pexpolicy replay`` and ``pexpolicy test`` count the decisions that are this object or have
        this reason. A fourth part is a function: only requests count for which it returns true.
        """

    @hookspec
    def tracked_files(self) -> Iterable[Path]:  # type: ignore[empty-body]
        """Return the files that the plugin was built from, in addition to its settings.

        A server reloads when one of them changes, and ``policy_hash`` covers their content.
        Relative paths are relative to the configuration file. Called once, after ``__init__``.
        """


HOOKS: Mapping[str, Any] = {
    name: method for name, method in vars(Plugin).items() if hasattr(method, SPEC_MARK)
}
"""The specification of each hook, by name."""
