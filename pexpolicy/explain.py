"""The explanation of one request: the answer, and each step on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
"""Characters of an invalid request that its error message repeats."""


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


class InvalidRequestError(ValueError):
    """The input is not a request of Infinity."""


async def explain(policy: Policy, text: str) -> Explanation:
    """Answer a request path with its query, a whole URL, or a line of a log.

    The policy must be serving. Raise ``InvalidRequestError`` for other input.
    """
    url = _url(text)
    base_path = policy.settings.server.base_path
    name, alias, prefix = _endpoint(url.raw_path, base_path)
    request: Request = ENDPOINTS[name].parse(url.query, alias)
    request.set_origin(url.raw_path_qs)
    notes, errors = request.enable_notes(), request.collect_errors()
    answer = await policy.answer(request, str(uuid7()))
    path_problem = "" if prefix == base_path else _path_problem(url.raw_path, prefix, base_path)
    return Explanation(name, alias, url, answer, notes, errors, path_problem)


def without_secrets(explained: Explanation) -> tuple[bytes, list[str]]:
    """Return the body of the reply without its secrets, and the names of the removed fields."""
    answer = explained.answer
    result, removed = Redaction().result(explained.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    envelope = orjson.loads(answer.reply.body)
    envelope["result"] = result
    return orjson.dumps(envelope), removed


def _url(text: str) -> URL:
    """Return the URL in the input, which may be a whole log line."""
    if (logged := _LOGGED_URL.search(text)) is not None:
        found = logged[1]
    else:
        words = text.split()
        found = next((word for word in words if _COMMON in word), text.strip())
        if found not in words and words:
            raise _no_request(found)
        found = found.strip("'\"")
    try:
        return URL(found, encoded=True)
    except ValueError:
        msg = "this is not a URL"
        raise InvalidRequestError(msg) from None


def _endpoint(path: str, base_path: str) -> tuple[str, str, str]:
    """Return the endpoint of a path below any prefix, its alias decoded once, and the prefix."""
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
        f"{quoted or '(nothing)'} is not one of the paths that Infinity asks for:\n{paths}"
    )


def _path_problem(path: str, prefix: str, base_path: str) -> str:
    """Describe the reply of the server to a path with this prefix, and the right path."""
    right = base_path + path[len(prefix) :]
    reason = f'server.base_path is "{base_path}"' if base_path else "there is no server.base_path"
    return (
        f"the server answers 404 (unknown path) to {path}: {reason}, "
        f"so nodes have to ask {right}. "
        "The explanation holds if a proxy in front of the server changes the path"
    )
