"""The explanation of a request: the answer, and the steps that led to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

import orjson
from uuid_utils import uuid7
from yarl import URL

from pexpolicy.audit.redaction import Redaction
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import Request
from pexpolicy.policy import Answer, Policy
from pexpolicy.text import printable

_LOGGED_URL = re.compile(r'URL="([^"]*)"', re.IGNORECASE)
_COMMON = "/policy/v1/"
MAX_QUOTED = 120
"""Characters of an invalid request that the error message repeats."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A parsed request and the answer of the policy."""

    endpoint: str
    alias: str
    url: URL
    answer: Answer
    notes: list[str]
    """The notes of plugins on their decisions."""
    path_problem: str = ""
    """Why the server would not answer the path of the request."""


class InvalidRequestError(ValueError):
    """The text holds no request of Infinity."""


async def explain(policy: Policy, text: str) -> Explanation:
    """Answer a request path with its query, a whole URL, or a line of a log.

    The policy must be serving. Raises ``InvalidRequestError``.
    """
    url = _url(text)
    base_path = policy.settings.server.base_path
    name, alias, prefix = _endpoint(url.raw_path, base_path)
    request: Request = ENDPOINTS[name].parse(url.query, alias)
    request.set_origin(url.raw_path_qs)
    notes = request.enable_notes()
    answer = await policy.answer_request(name, request, str(uuid7()))
    problem = "" if prefix == base_path else _path_problem(url.raw_path, prefix, base_path)
    return Explanation(name, alias, url, answer, notes, problem)


def without_secrets(explanation: Explanation) -> tuple[bytes, list[str]]:
    """Return the body of the reply without its secrets, and the names of the secrets."""
    answer = explanation.answer
    result, removed = Redaction().result(explanation.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    envelope = orjson.loads(answer.reply.body)
    envelope["result"] = result
    return orjson.dumps(envelope), removed


def _url(text: str) -> URL:
    """Return the URL in a text, which may be a line of a log."""
    if (logged := _LOGGED_URL.search(text)) is not None:
        text = logged[1]
    else:
        words = text.split()
        text = next((word for word in words if _COMMON in word), text.strip())
        if text not in words and words:
            raise _no_request(text)
        text = text.strip("'\"")
    try:
        return URL(text, encoded=True)
    except ValueError:
        msg = "this is no URL"
        raise InvalidRequestError(msg) from None


def _endpoint(path: str, base_path: str) -> tuple[str, str, str]:
    """Return the endpoint of a path, the alias in it, decoded once, and the prefix of the path."""
    prefix, found, rest = path.partition(_COMMON)
    below = found + rest
    for name, endpoint in ENDPOINTS.items():
        if below == endpoint.path and not endpoint.path.endswith("/"):
            return name, "", prefix
        if (
            endpoint.path.endswith("/")
            and below.startswith(endpoint.path)
            and below != endpoint.path
        ):
            return name, unquote(below[len(endpoint.path) :]), prefix
    if rest.startswith(_COMMON[1:]):
        msg = (
            f"{path} has /policy/v1 twice: Infinity adds it to the URL of its policy profile, "
            f"which ends in {base_path or 'the name and port of the server'}"
        )
        raise InvalidRequestError(msg)
    raise _no_request(path)


def _no_request(text: str) -> InvalidRequestError:
    quoted = printable(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")
    paths = "\n".join(
        "  " + e.path + ("<alias>" if e.path.endswith("/") else "") for e in ENDPOINTS.values()
    )
    return InvalidRequestError(
        f"{quoted or '(nothing)'} is none of the paths that Infinity asks for:\n{paths}"
    )


def _path_problem(path: str, prefix: str, base_path: str) -> str:
    """Return how the server replies to a path with this prefix, and the right path."""
    right = base_path + path[len(prefix) :]
    reason = f'server.base_path is "{base_path}"' if base_path else "there is no server.base_path"
    return (
        f"the server answers 404 (unknown path) to {path}: {reason}, "
        f"so nodes have to ask {right}. "
        "The rest applies if a proxy in front of the server changes the path"
    )
