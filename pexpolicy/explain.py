"""Answering a request that somebody pasted, and showing how the answer came about."""

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
SHOWN = 120
"""Characters of what is no request that are said again."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A request as it was understood, and what the policy makes of it."""

    endpoint: str
    alias: str
    url: URL
    answer: Answer
    notes: list[str]
    """What plugins said of why they decided so."""
    astray: str = ""
    """What is wrong with the path of the request, below which a server would decide nothing."""


class InvalidRequestError(ValueError):
    """What was pasted is no request of Infinity."""


async def explain(policy: Policy, pasted: str) -> Explanation:
    """Answer a request path with its query, a whole URL, or a line of Pexip's support log.

    The policy must be serving. Raises ``InvalidRequestError``.
    """
    url = _url(pasted)
    base_path = policy.settings.server.base_path
    name, alias, prefix = _endpoint(url.raw_path, base_path)
    request: Request = ENDPOINTS[name].parse(url.query, alias)
    request.set_origin(url.raw_path_qs)
    notes = request.enable_notes()
    answer = await policy.answer(request, str(uuid7()))
    astray = "" if prefix == base_path else _astray(url.raw_path, prefix, base_path)
    return Explanation(name, alias, url, answer, notes, astray)


def without_secrets(explained: Explanation) -> tuple[bytes, list[str]]:
    """The body of the reply without its secrets, and the names of those that were in it."""
    answer = explained.answer
    shown, removed = Redaction().result(explained.endpoint, answer.outcome.decision)
    if not removed:
        return answer.reply.body, []
    envelope = orjson.loads(answer.reply.body)
    envelope["result"] = shown
    return orjson.dumps(envelope), removed


def _url(pasted: str) -> URL:
    """The URL in what was pasted, which may be a whole line of somebody's log."""
    if (logged := _LOGGED_URL.search(pasted)) is not None:
        text = logged[1]
    else:
        words = pasted.split()
        text = next((word for word in words if _COMMON in word), pasted.strip())
        if text not in words and words:
            raise _no_request(text)
        text = text.strip("'\"")
    try:
        return URL(text, encoded=True)
    except ValueError:
        msg = "this is no URL"
        raise InvalidRequestError(msg) from None


def _endpoint(path: str, base_path: str) -> tuple[str, str, str]:
    """The endpoint of a path below any prefix, the alias in it, decoded once, and the prefix."""
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
    shown = printable(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
    paths = "\n".join(
        "  " + e.path + ("<alias>" if e.path.endswith("/") else "") for e in ENDPOINTS.values()
    )
    return InvalidRequestError(
        f"{shown or '(nothing)'} is none of the paths that Infinity asks for:\n{paths}"
    )


def _astray(path: str, prefix: str, base_path: str) -> str:
    """What the server says to a path with this prefix, and which it should be."""
    right = base_path + path[len(prefix) :]
    because = f'server.base_path is "{base_path}"' if base_path else "there is no server.base_path"
    return (
        f"the server answers 404 (unknown path) to {path}: {because}, "
        f"so nodes have to ask {right}. "
        "What follows holds where a proxy before the server changes the path"
    )
