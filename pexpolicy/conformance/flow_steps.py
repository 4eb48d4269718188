"""A step of a call flow: one request, with the values that only the course of the flow tells."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from pexpolicy.endpoints import ENDPOINTS


class Placeholder(enum.Enum):
    """A value that stands open until the step is played."""

    ALIAS = "the alias that is dialed"
    SIP_ALIAS = "the same as a full SIP URI"
    CALLER = "the alias of the caller"
    SERVICE_NAME = "the name in our service answer"
    SERVICE_TAG = "the tag in our service answer"
    PREVIOUS_NAME = "the name of the service before the transfer"


Value = str | Placeholder | tuple[str, ...] | None
"""A text, an open value, several values under one name, or nothing: the parameter is left out."""
Query = Mapping[str, Value]


AGAIN = "the same request must get the same decision"


@dataclass(frozen=True, slots=True)
class DecodingMarker:
    """A text that stands in a reply only if the server decoded the request wrongly."""

    text: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of a flow.

    ``same_as`` names an earlier step of the flow that must get the same decision; ``because`` says
    why, and ``certain`` whether Pexip documents it. ``strain`` marks a request that a server may
    refuse to read.
    """

    name: str
    endpoint: str
    query: Query
    alias: str | Placeholder = ""
    """What stands in the path: raw text as on the wire, or an open value."""
    escape: Callable[..., str] = quote_plus
    same_as: str = ""
    because: str = AGAIN
    certain: bool = True
    strain: bool = False
    breakout: str = ""
    """UUID of a breakout room that an answer of the server announced."""
    traces: tuple[DecodingMarker, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """The requests that one call, search or registration makes, in their order."""

    name: str
    steps: tuple[Step, ...]


class CallState:
    """What a node knows in the course of one flow."""

    def __init__(self, alias: str, caller: str) -> None:
        self.alias = alias
        self.caller = caller
        self.service: Mapping[str, Any] = {}
        self._name = alias
        self._previous = ""

    def value(self, slot: Placeholder) -> str:
        """The value of an open one, as far as the flow has come."""
        match slot:
            case Placeholder.ALIAS:
                return self.alias
            case Placeholder.SIP_ALIAS:
                return sip_uri(self.alias)
            case Placeholder.CALLER:
                return self.caller
            case Placeholder.SERVICE_NAME:
                return self._name
            case Placeholder.SERVICE_TAG:
                return str(self.service.get("service_tag", ""))
            case Placeholder.PREVIOUS_NAME:
                return self._previous

    def learn(self, service: Mapping[str, Any], asked: Mapping[str, str]) -> None:
        """Take over the service of an answer.

        Without one the node goes on with its own service of that alias.
        """
        if asked.get("previous_service_name"):
            self._previous = self._name
        self.service = service
        self._name = str(service.get("name") or asked.get("local_alias") or self.alias)

    def pairs(self, query: Query) -> list[tuple[str, str]]:
        """The parameters as they are sent."""
        found: list[tuple[str, str]] = []
        for name, value in query.items():
            if isinstance(value, tuple):
                found += [(name, one) for one in value]
            elif value is not None:
                found.append((name, self.value(value) if isinstance(value, Placeholder) else value))
        return found

    def target(self, step: Step, pairs: list[tuple[str, str]]) -> str:
        """The path and query of a step, byte for byte as on the wire."""
        alias = (
            quote(self.value(step.alias), safe="")
            if isinstance(step.alias, Placeholder)
            else step.alias
        )
        return f"{ENDPOINTS[step.endpoint].path}{alias}?{urlencode(pairs, quote_via=step.escape)}"


def sip_uri(alias: str) -> str:
    """The full SIP URI of an alias; a bare name is taken to be at example.com."""
    if alias.partition(":")[0].lower() in ("sip", "sips"):
        return alias
    return f"sip:{alias}" if "@" in alias else f"sip:{alias}@example.com"
