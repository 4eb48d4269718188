"""The explanation of one request: the answer, each step on the way, and what a node makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

import orjson
from uuid_utils import uuid7
from yarl import URL

from pexpolicy.audit.redaction import Redaction
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.explain.request_forms import RecordedRequest, endpoint_of
from pexpolicy.models.contract import Extras
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request, collect_errors, enable_notes, set_origin
from pexpolicy.policy import Answer, Policy

LOCAL_POLICY_GROUP = "pexpolicy.local_policy"
"""The group of the entry point that loads scripts of local policy."""


def known_to_infinity(config: Path) -> tuple[Extras, Callable[[Decision], None]]:
    """Return the extras of ``[infinity]``, and what checks the names in a decision against it.

    The check raises ``DecisionError``. Raise ``LocalPolicyError`` for a configuration that cannot
    be used.
    """
    try:
        settings = load(config)
    except ConfigError as error:
        raise LocalPolicyError(str(error)) from None
    return settings.extras, ObjectNames(settings.infinity).check


class LocalPolicyError(ValueError):
    """A script or an input that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class LocalPolicyOutcome:
    """What a node does after its script has run on our answer.

    ``decision`` is what the script decided, ``None`` where nothing is changed or the script is not
    applied. ``unknown`` is true where the script reads what only the node knows.
    """

    script: str
    is_applied: bool
    verdict: str
    changed: tuple[str, ...] = ()
    decision: Decision | None = None
    notes: tuple[str, ...] = ()
    unknown: bool = False
    final: Decision | None = None
    """The decision that takes effect; ``None`` where that is ours, unchanged."""


class LocalPolicy(Protocol):
    """The scripts of a node, one for each kind of request at most."""

    def running(self) -> AbstractAsyncContextManager[Any]:
        """Start what runs the scripts."""

    async def after(
        self,
        endpoint: str,
        request: Request,
        decision: Decision,
        now: float | None,
        extras: Extras,
    ) -> LocalPolicyOutcome | None:
        """Return what the node makes of a decision, ``None`` where it has no script for it.

        ``now`` is the time of the script in seconds since 1970, ``extras`` what Infinity knows
        beyond the contract.
        """

    def reads(self, endpoint: str) -> frozenset[str]:
        """Return the names of what the script for an endpoint may read or call."""


def local_policy_files(names: Sequence[str]) -> tuple[tuple[str, ...], Path | None]:
    """Return the scripts among the files of ``--local-policy``, and the one that ends in ``.json``.

    That is the service that Infinity itself has. Raise ``LocalPolicyError`` without a script.
    """
    services = [Path(name) for name in names if name.endswith(".json")]
    if len(services) > 1 or len(services) == len(names) > 0:
        msg = "--local-policy: name a script, and at most one .json file"
        raise LocalPolicyError(msg)
    scripts = tuple(name for name in names if not name.endswith(".json"))
    return scripts, next(iter(services), None)


def load_local_policy(
    scripts: Sequence[str], endpoint: str | None, service_config: Path | None
) -> LocalPolicy:
    """Return the scripts, each a file or ``KIND=FILE``.

    A file without a kind is for requests of ``endpoint``; without one, the script tells its kind.
    ``service_config`` is a file with the service that Infinity itself has, as JSON. Raise
    ``LocalPolicyError``.
    """
    found = next(iter(metadata.entry_points(group=LOCAL_POLICY_GROUP)), None)
    if found is None:
        msg = "local policy scripts need the package pexpolicy-local-policy: install it"
        raise LocalPolicyError(msg)
    return cast("LocalPolicy", found.load()(scripts, endpoint, service_config))


@dataclass(frozen=True, slots=True)
class Explanation:
    """A parsed request, and the answer of the policy."""

    endpoint: str
    alias: str
    url: URL
    answer: Answer
    notes: list[str]
    """The reasons that plugins gave for their answers."""
    errors: Sequence[BaseException] = ()
    """What plugins raised; a ``TimeoutError`` for each that was late."""
    path_problem: str = ""
    """Why the server would not answer this path."""
    rest: Sequence[Outcome] = ()
    """What each plugin that was not asked would have decided, if those were asked as well."""
    local_policy: LocalPolicyOutcome | None = None
    """What the script of the node makes of the answer."""


async def explain(
    policy: Policy,
    recorded: RecordedRequest,
    *,
    all: bool = False,  # noqa: A002 - the name of the option
    moment: datetime | None = None,
    local_policy: LocalPolicy | None = None,
) -> Explanation:
    """Answer a request, and with ``all`` ask the plugins after the decision too.

    The policy must be serving; its clock has been set to ``moment``, if there is one. The script of
    a node follows the answer. Raise ``InvalidRequestError`` for a path of no request.
    """
    url, base_path = recorded.url, policy.settings.server.base_path
    name, alias, prefix = endpoint_of(url, base_path)

    def parsed() -> Request:
        request: Request = ENDPOINTS[name].parse(url.query, alias)
        set_origin(request, url.raw_path_qs, recorded.peer)
        return request

    request = parsed()
    notes, errors = enable_notes(request), collect_errors(request)
    answer = await policy.answer(request, str(uuid7()))
    rest: Sequence[Outcome] = ()
    if all:
        # Not the same request, to which they could add annotations.
        later = parsed()
        later.__dict__.update(notes=notes, errors=errors)
        asked = sum(not step.hook for step in answer.outcome.steps)
        rest = await policy.ask_rest(later, asked)
    path_problem = ""
    if recorded.names_server and prefix != base_path:
        path_problem = _path_problem(url.raw_path, prefix, base_path)
    after = None
    if local_policy is not None:
        now = policy.context.wall_clock()
        async with local_policy.running():
            after = await local_policy.after(
                name, answer.outcome.request, answer.outcome.decision, now, policy.settings.extras
            )
    if moment is not None:
        notes.extend(
            f"{plugin.name} runs in processes of its own, which have the present time"
            for plugin in policy.plugins
            if plugin.is_isolated
        )
    return Explanation(name, alias, url, answer, notes, errors, path_problem, rest, after)


def without_secrets(explained: Explanation) -> tuple[bytes, list[str]]:
    """Return the body of the reply without its secrets, and the names of the removed fields."""
    answer = explained.answer
    result, removed = Redaction().result(explained.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    envelope = orjson.loads(answer.reply.body)
    envelope["result"] = result
    return orjson.dumps(envelope), removed


def _path_problem(path: str, prefix: str, base_path: str) -> str:
    """Describe the reply of the server to a path with this prefix, and the right path."""
    right = base_path + path[len(prefix) :]
    reason = f'server.base_path is "{base_path}"' if base_path else "there is no server.base_path"
    return (
        f"the server answers 404 (unknown path) to {path}: {reason}, "
        f"so nodes have to ask {right}. "
        "The explanation holds if a proxy in front of the server changes the path"
    )
