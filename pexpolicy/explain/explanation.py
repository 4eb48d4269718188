"""The explanation of one request: the answer, and each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

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
from pexpolicy.models.request import Request, collect_errors, enable_notes, set_origin
from pexpolicy.policy import Answer, Policy


@dataclass(frozen=True, slots=True)
class Explanation:
    """A parsed request, and the answer of the policy."""

    endpoint: str
    alias: str
    url: URL
    answer: Answer
    policy_hash: str
    notes: list[str]
    """The reasons that plugins gave for their answers."""
    errors: Sequence[BaseException] = ()
    """What plugins raised; a ``TimeoutError`` for each that was late."""
    path_problem: str = ""
    """Why the server would not answer this path."""


async def explain(
    policy: Policy, recorded: RecordedRequest, *, moment: datetime | None = None
) -> Explanation:
    """Answer a request.

    The policy must be serving; its clock has been set to ``moment``, if there is one. Raise
    ``InvalidRequestError`` for a path of no request.
    """
    url, base_path = recorded.url, policy.settings.server.base_path
    name, alias, prefix = endpoint_of(url)
    request: Request = ENDPOINTS[name].parse(url.query, alias)
    set_origin(request, url.raw_path_qs, recorded.peer)
    notes, errors = enable_notes(request), collect_errors(request)
    answer = await policy.answer(request, str(uuid7()))
    path_problem = ""
    if recorded.names_server and prefix != base_path:
        right = base_path + url.raw_path[len(prefix) :]
        path_problem = (
            f"the server answers 404 (unknown path) to {url.raw_path}: by server.base_path nodes "
            f"have to ask {right}. The explanation holds if a proxy changes the path"
        )
    if moment is not None:
        notes.extend(
            f"{plugin.name} runs in processes of its own, which have the present time"
            for plugin in policy.plugins
            if plugin.is_isolated
        )
    return Explanation(name, alias, url, answer, policy.policy_hash, notes, errors, path_problem)


def without_secrets(explained: Explanation) -> tuple[bytes, list[str]]:
    """Return the body of the reply without its secrets, and the names of the removed fields."""
    answer = explained.answer
    result, removed = Redaction().result(explained.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    envelope = orjson.loads(answer.reply.body)
    envelope["result"] = result
    return orjson.dumps(envelope), removed


# ---- the local policy of a node


class LocalPolicyError(ValueError):
    """A script or an input that cannot be used; the text says why."""


def known_to_infinity(config: Path) -> tuple[Extras, Callable[[Decision], object]]:
    """Return the extras of ``[infinity]``, and what checks the names in a decision against it.

    The check raises ``DecisionError``. Raise ``LocalPolicyError`` for a configuration that cannot
    be used.
    """
    try:
        settings = load(config)
    except ConfigError as error:
        raise LocalPolicyError(str(error)) from None
    return settings.infinity.extras, ObjectNames(settings.infinity.names).check
