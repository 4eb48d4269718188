"""Answering a request that somebody pasted, and showing how the answer came about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

import orjson
from uuid_utils import uuid7
from yarl import URL

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.parameters import Request
from pexpolicy.policy import Answer, Policy
from pexpolicy.redaction import Redaction

_LOGGED_URL = re.compile(r'URL="([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Explained:
    """A request as it was understood, and what the policy makes of it."""

    endpoint: str
    alias: str
    url: URL
    answer: Answer
    notes: list[str]
    """What plugins said of why they decided so."""


class NotARequestError(ValueError):
    """What was pasted is no request of Infinity."""


async def explain(policy: Policy, pasted: str) -> Explained:
    """Answer a request path with its query, a whole URL, or a line of Pexip's support log.

    The policy must be serving. Raises ``NotARequestError``.
    """
    url = _url(pasted)
    name, alias = _endpoint(url.raw_path)
    request: Request = ENDPOINTS[name].parse(url.query, alias)
    request.came_as(url.raw_path_qs)
    notes = request.take_notes()
    answer = await policy.answer_request(name, request, str(uuid7()))
    return Explained(name, alias, url, answer, notes)


def without_secrets(explained: Explained) -> tuple[bytes, list[str]]:
    """The body of the reply without its secrets, and the names of those that were in it."""
    answer = explained.answer
    shown, removed = Redaction().result(explained.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    envelope = orjson.loads(answer.reply.body)
    envelope["result"] = shown
    return orjson.dumps(envelope), removed


def _url(pasted: str) -> URL:
    text = pasted.strip().strip("'\"")
    if (logged := _LOGGED_URL.search(pasted)) is not None:
        text = logged[1]
    text = text.removeprefix("GET ").partition(" ")[0]
    try:
        return URL(text, encoded=True)
    except ValueError:
        msg = "this is no URL"
        raise NotARequestError(msg) from None


def _endpoint(path: str) -> tuple[str, str]:
    """The endpoint of a path below any base path, and the alias in it, decoded once."""
    _, found, rest = path.partition("/policy/v1/")
    below = found + rest
    for name, endpoint in ENDPOINTS.items():
        if below == endpoint.path and not endpoint.path.endswith("/"):
            return name, ""
        if (
            endpoint.path.endswith("/")
            and below.startswith(endpoint.path)
            and below != endpoint.path
        ):
            return name, unquote(below[len(endpoint.path) :])
    paths = "\n".join(
        "  " + e.path + ("<alias>" if e.path.endswith("/") else "") for e in ENDPOINTS.values()
    )
    msg = f"{path or '(nothing)'} is none of the paths that Infinity asks for:\n{paths}"
    raise NotARequestError(msg)
