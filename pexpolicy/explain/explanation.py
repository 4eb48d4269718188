"""The explanation of one request: the answer, and each step on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from uuid_utils import uuid7
from yarl import URL

from pexpolicy.audit.redaction import Redaction
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.local_policy import LocalPolicyOutcome
from pexpolicy.explain.request_forms import RecordedRequest, endpoint_of
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request
from pexpolicy.policy import Answer, Policy


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


async def explain(policy: Policy, recorded: RecordedRequest, *, all: bool = False) -> Explanation:  # noqa: A002 - the name of the option
    """Answer a request, and with ``all`` ask the plugins after the decision too.

    The policy must be serving. Raise ``InvalidRequestError`` for a path of no request.
    """
    url, base_path = recorded.url, policy.settings.server.base_path
    name, alias, prefix = endpoint_of(url, base_path)

    def parsed() -> Request:
        request: Request = ENDPOINTS[name].parse(url.query, alias)
        request.set_origin(url.raw_path_qs, recorded.peer)
        return request

    request = parsed()
    notes, errors = request.enable_notes(), request.collect_errors()
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
    return Explanation(name, alias, url, answer, notes, errors, path_problem, rest)


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
