"""Hook specifications: the whole contract of a plugin on one page.

A plugin is a class that an entry point of the group ``pexpolicy`` names. It is built with its
validated settings, and its methods that carry ``@hookimpl`` are asked. ``async def`` is for code
that awaits, or that answers at once; plain ``def`` is for code that blocks, and runs in the
plugin's own threads.

For each request the plugins are asked one after the other, the lowest ``priority`` first. ``None``
means *not mine, ask the next*; anything else is the decision, and no further plugin is asked. A
decision is one of the classes named here, or a dictionary that is used as ``result``. ``Continue``
is a decision too: Infinity then does what it would do without a policy server.

A hook has the plugin's ``timeout`` (1 s unless configured), inside the budget of the whole call (4
s). When it raises, is late or answers something that Infinity would drop, the plugin's ``on_error``
decides what follows.
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
"""The version of the hooks. A plugin whose class has ``pexpolicy_api = 2`` needs a newer
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
    breakout room. The call is not set up before the answer arrives, so a look-up in memory is
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

    The picture may be a JPEG, PNG, GIF, WebP or BMP of any size; it is scaled to fit.
    """


@hookspec(firstresult=True)
def directory_information(
    request: DirectoryInformationRequest,
) -> Directory | Continue | list[DirectoryEntry] | Result | None:
    """Which phone book entries match the search text ``request.q``?

    Asked while the user types, with a single letter or an empty text too. Entries after ``limit``
    are removed.
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
    after its last one. All I/O belongs here; building the class does none, except for reading the
    files that ``tracked_files`` names. At a reload the new instance is opened while the old one
    still answers, and each worker process has its own: do not bind a port, lock a file or assume
    to be alone.
    """


@hookspec
def on_decision(outcome: Outcome) -> None:
    """Observe each decision: for counters, web hooks and messages.

    Called after the reply has left, for each call of each endpoint, with ``outcome.request``,
    ``outcome.decision``, ``outcome.decided_by``, ``outcome.steps`` and ``outcome.decision_id``. It
    cannot change or delay a reply. It has the plugin's timeout. When too many calls wait for it,
    further ones are skipped and counted.
    """


@hookspec
def static_decisions() -> Iterable[tuple[Key, Decision]]:  # type: ignore[empty-body]
    """Return the decisions that never change, each with the settings key that it comes from.

    They are compared with the names that ``[infinity]`` of the configuration lists. Called once
    when the policy is built; does no I/O.
    """


@hookspec
def config_warnings() -> Iterable[ConfigWarning]:  # type: ignore[empty-body]
    """Return warnings about a configuration that is valid but doubtful.

    Shown by ``pexpolicy check`` and at startup. Called once when the policy is built; does no
    I/O.
    """


@hookspec
def status() -> Mapping[str, object]:  # type: ignore[empty-body]
    """Return what operators should see of the running plugin: sizes, connections, counters.

    Shown by ``/status`` and ``pexpolicy status``, and called only then, never for a call. It has
    one second. Do not include names of people or secrets.
    """


@hookspec
def tracked_files() -> Iterable[Path]:  # type: ignore[empty-body]
    """Return the files that the plugin was built from, in addition to its settings.

    A running server reloads when one of them changes, and ``config_hash`` of the audit covers
    their content. Relative paths are relative to the configuration file. Called once when the
    policy is built, after ``__init__``, which has read them.
    """
