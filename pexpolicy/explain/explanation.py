"""The explanation of one request: the answer, and each step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson
from uuid_utils import uuid7

from pexpolicy.audit.redaction import Redaction
from pexpolicy.config.settings import Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest
from pexpolicy.models.request import Request, collect_errors, enable_notes, set_origin
from pexpolicy.policy import Answer, Policy
from pexpolicy.text import suggest


class Explanation(NamedTuple):
    """A request, and the answer of the policy."""

    request: RecordedRequest
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

    The policy must be serving; its clock has been set to ``moment``, if there is one.
    """
    request = request_of(policy.settings, recorded)
    notes, errors = enable_notes(request), collect_errors(request)
    answer = await policy.answer(request, str(uuid7()))
    path_problem, right = "", policy.settings.server.base_path
    if recorded.base_path not in (None, right):
        path, _, _ = recorded.target().partition("?")
        path_problem = (
            f"the server answers 404 (unknown path) to {recorded.base_path}{path}: by "
            f"server.base_path nodes have to ask {right}{path}. The explanation holds if a proxy "
            "changes the path"
        )
    if moment is not None:
        notes.extend(
            f"{plugin.name} runs in processes of its own, which have the present time"
            for plugin in policy.plugins
            if plugin.is_isolated
        )
    return Explanation(recorded, answer, policy.policy_hash, notes, errors, path_problem)


def request_of(settings: Settings, recorded: RecordedRequest) -> Request:
    """Return the request of a record, as its client sends it to this configuration.

    Its environment is the one that is wanted, else that of the audit line, or of the first address
    that has one. Raise ``InvalidRequestError`` for one that does not exist.
    """
    request: Request = ENDPOINTS[recorded.endpoint].parse(recorded.params, recorded.alias)
    tables, wanted, line = settings.environments, recorded.environment, recorded.line
    if wanted is not None and wanted not in tables:
        text = f"there is no table [environments.{wanted}]{suggest(wanted, tables)}"
        raise InvalidRequestError(text)
    if wanted is None and line is not None and line.peer == recorded.peer:  # of the same client
        wanted = line.environment
    node = None if "node_ip" in recorded.assumed else recorded.params.get("node_ip")
    found = wanted if wanted in tables else settings.nodes.of(None, recorded.peer, node)
    set_origin(request, recorded.target, recorded.peer, found)
    return request


def without_secrets(explained: Explanation) -> tuple[bytes, list[str]]:
    """Return the body of the reply without its secrets, and the names of the removed fields."""
    answer = explained.answer
    result, removed = Redaction().result(answer.outcome.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    return orjson.dumps({**orjson.loads(answer.reply.body), "result": result}), removed
