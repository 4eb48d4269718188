"""What may be written down of a request and of a reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from orjson import Fragment

from pexpolicy.contract.checked import Checked, assign
from pexpolicy.decisions import Continue, Decision, Reject
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.parameters import Params, Request

REMOVED = "***"
_SHAPED = (Continue, Reject, Avatar, Directory)
"""Decisions whose endpoint says what stands in ``result``, if anything; they hold no secrets."""
ATTRIBUTE = "idp_attribute_"


class LoggedParameters:
    """The parameters of one kind of request that may be written down: those that we know, less the
    secrets.
    """

    def __init__(self, request: type[Request]) -> None:
        wires = {p.wire for p in request.parameters().values() if not p.secret}
        self._shown = frozenset(wires | {_header(wire) for wire in wires})

    def of(self, params: Params) -> tuple[dict[str, Any], list[str]]:
        """What came and may be written down, and the names of what came and may not.

        Empty values are left out. A parameter that we do not know may hold anything, so it counts
        as a secret. A repeated one keeps all its values.
        """
        shown = self._shown
        facts: dict[str, Any] = {}
        withheld: list[str] = []
        for name, value in params.items():
            if not value:
                continue
            if name not in shown and not name.startswith(ATTRIBUTE) and _header(name) not in shown:
                withheld.append(name[:100])
            elif name in facts:
                facts[name] = _more(facts[name], value)
            else:
                facts[name] = value
        return facts, withheld


def _header(name: str) -> str:
    return name.lower().replace("_", "-")


def _more(before: Any, value: str) -> list[str]:
    return [*before, value] if isinstance(before, list) else [before, value]


def sent(endpoint: str, decision: Decision) -> tuple[object, list[str]]:
    """The ``result`` of a reply without its secrets, and the names of the secrets that were in it.

    ``None`` where the reply has no ``result``. It is worked out once for each decision: most were
    made when the policy was built, and are sent again and again.
    """
    if type(decision) in _SHAPED:
        shaped = ENDPOINTS[endpoint].envelope(decision).get("result")
        return (msgspec.Raw(decision.result) if isinstance(shaped, Fragment) else shaped), []
    if (logged := decision.logged) is None:
        logged = _without_secrets(decision)
        assign(decision, "logged", logged)
    return logged


def _without_secrets(decision: Decision) -> tuple[object, list[str]]:
    cls, result = type(decision), decision.result
    if not decision.warnings and not any(mark in result for mark in cls.secret_marks):
        return msgspec.Raw(result), []
    removed: list[str] = []
    return _masked(decision.set_fields(), cls, removed), removed


def _masked(fields: Mapping[str, Any], cls: type[Checked], removed: list[str]) -> dict[str, Any]:
    masked: dict[str, Any] = {}
    for name, value in fields.items():
        if name in cls.secrets or name not in cls.names:
            masked[name] = REMOVED
            removed.append(name)
        elif cls.nested and isinstance(value, list):
            masked[name] = [
                _masked(item, cls.nested[0], removed) if isinstance(item, dict) else item
                for item in value
            ]
        else:
            masked[name] = value
    return masked
