"""The explanation of one request: the answer, and each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from uuid_utils import uuid7
from yarl import URL

from pexpolicy.audit.redaction import Redaction
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest, endpoint_of
from pexpolicy.models.contract import Extras
from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request, collect_errors, enable_notes, set_origin
from pexpolicy.policy import Answer, Policy
from pexpolicy.text import suggest


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
    # Another client than the one in the line may be of another environment.
    line = recorded.line if recorded.peer == recorded.line.get("peer") else {}
    node = None if "node_ip" in recorded.assumed else url.query.get("node_ip")
    origin = policy.settings, recorded.environment, line, recorded.peer, node
    set_origin(request, url.raw_path_qs, recorded.peer, environment_of(*origin))
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


def environment_of(
    settings: Settings, wanted: str | None, line: Mapping[str, Any], *addresses: str | None
) -> str | None:
    """Return the environment of a call that no node makes, whose audit line may be known.

    That is the wanted one, else that of the line, of its credential, or of the first address that
    has one. Raise ``InvalidRequestError`` for a wanted one that does not exist.
    """
    tables, users = settings.environments, [one.user for one in settings.credentials]
    if wanted is not None and wanted not in tables:
        raise InvalidRequestError(
            f"there is no table [environments.{wanted}]{suggest(wanted, tables)}"
        )
    if (found := wanted or line.get("environment")) in tables:
        return found
    number = line.get("credential") or int(len(users) == 1)
    is_known = isinstance(number, int) and 0 < number <= len(users)
    return settings.nodes.of(users[number - 1] if is_known else None, *addresses)


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
