"""The hooks: everything that a plugin can do, on one page.

A plugin is a class that an entry point of the group ``pexpolicy`` names. It is built with its
validated settings, and its methods that carry ``@hookimpl`` are asked. ``async def`` is for code
that awaits, or that answers at once; plain ``def`` is for code that blocks, and runs in threads of
that plugin's own.

For each request the plugins are asked one after the other, the lowest ``priority`` first. ``None``
means *not mine, ask the next*; anything else is the decision, and nobody else is asked. A decision
is one of the classes named here, or a dictionary that is taken for ``result``. ``Continue`` ends
the asking too: Infinity then does what it would do without a policy server.

A hook has the plugin's ``timeout`` (1 s unless configured), inside the budget of the whole call (4
s). When it raises, is late or answers something that Infinity would drop, the plugin's ``on_error``
says what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
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
    from pexpolicy.models.outcome import Outcome

Result = Mapping[str, Any]

HOOK_API = 1
"""The version of the hooks. A plugin whose class says ``pexpolicy_api = 2`` needs a newer
pexpolicy.
"""

hookspec = pluggy.HookspecMarker("pexpolicy")
hookimpl = pluggy.HookimplMarker("pexpolicy")


@hookspec(firstresult=True)
def service_configuration(
    request: ServiceConfigurationRequest,
) -> Service | Continue | Reject | Redirect | Result | None:
    """Which service does the dialed alias lead to?

    Asked for each incoming call, twice for a web join, before Infinity dials out, and for each
    breakout room. Everybody who sets up a call waits for the answer, so a look-up in memory is
    better than one over the network. The same call must get the same answer each time.
    """


@hookspec(firstresult=True)
def participant_properties(
    request: ParticipantPropertiesRequest,
) -> ParticipantProperties | Continue | Reject | Result | None:
    """Who may join, as what, and under which name?

    Asked for each participant, after the service is known. Web apps: after PIN or single sign-on,
    with role and ``idp_attributes``. SIP and H.323: before the PIN, with ``preauthenticated_role``
    unset.
    """


@hookspec(firstresult=True)
def media_location(
    request: MediaLocationRequest,
) -> MediaLocation | Continue | Result | None:
    """Which system location handles the media of this participant?

    A location name that Infinity does not know voids the whole answer.
    """


@hookspec(firstresult=True)
def participant_avatar(request: ParticipantAvatarRequest) -> Avatar | Continue | bytes | None:
    """Which picture belongs to ``request.alias``?

    The picture may have any size, and may be a JPEG, PNG, GIF, WebP or BMP; it is made to fit.
    """


@hookspec(firstresult=True)
def directory_information(
    request: DirectoryInformationRequest,
) -> Directory | Continue | list[DirectoryEntry] | Result | None:
    """Whom does the phone book hold for the search text ``request.q``?

    Asked while somebody types, with one letter and with none too. Entries behind ``limit`` are left
    out.
    """


@hookspec(firstresult=True)
def registration_alias(
    request: RegistrationAliasRequest,
) -> Credentials | Continue | Reject | Result | None:
    """May a device register as ``request.alias``, and with which credentials?

    ``Continue`` lets Infinity's own database decide.
    """


@hookspec
def lifespan() -> AbstractAsyncContextManager[None]:  # type: ignore[empty-body]
    """Open what the plugin needs: files, sockets, pools.

    An ``@asynccontextmanager`` method. Entered before the policy answers its first call and left
    after its last one. The place for everything that does I/O; building the class does none, but
    for reading the files that ``tracked_files`` names.
    """


@hookspec
def on_decision(outcome: Outcome) -> None:
    """See what was decided: for counters, web hooks and messages.

    Called after the reply has left, for each call of each endpoint, with ``outcome.request``,
    ``outcome.decision``, ``outcome.decided_by``, ``outcome.steps`` and ``outcome.decision_id``. It
    cannot change or delay a reply; it has the plugin's timeout, and when too many calls wait for
    it, some are left out.
    """


@hookspec
def static_decisions() -> Iterable[tuple[Key, Decision]]:  # type: ignore[empty-body]
    """The decisions that never change, with the keys of the settings that they come from.

    They are compared with the names that ``[infinity]`` of the configuration lists. Called once
    when the policy is built; does no I/O.
    """


@hookspec
def config_warnings() -> Iterable[ConfigWarning]:  # type: ignore[empty-body]
    """What an administrator should know of the plugin's configuration, though it is valid.

    Shown by ``pexpolicy check`` and at the start. Called once when the policy is built; does no
    I/O.
    """


@hookspec
def status() -> Mapping[str, object]:  # type: ignore[empty-body]
    """What operators should see of the plugin while it runs: what it holds, reaches and counts.

    Shown by ``/status`` and ``pexpolicy status``, and asked only then: never for a call. It has one
    second. Names of people and secrets do not belong there.
    """


@hookspec
def tracked_files() -> Iterable[Path]:  # type: ignore[empty-body]
    """The files that the plugin was made of, besides its settings.

    A running server builds its policy anew when one of them changes, and ``config_hash`` of the
    audit covers what they hold. Relative paths are relative to the configuration file. Called once
    when the policy is built, behind ``__init__``, which has read them.
    """
