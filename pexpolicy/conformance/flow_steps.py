"""Steps of call flows, with values that depend on earlier replies."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from pexpolicy.endpoints import ENDPOINTS


class Placeholder(enum.Enum):
    """A value that is known when the step is sent."""

    ALIAS = "the alias that is dialed"
    SIP_ALIAS = "the same as a full SIP URI"
    CALLER = "the alias of the caller"
    SERVICE_NAME = "the name of the service"
    SERVICE_TAG = "the tag of the service"
    PREVIOUS_NAME = "the name of the service before the transfer"


Value = str | Placeholder | tuple[str, ...] | None
"""A text, a placeholder, several values of one name, or ``None`` to leave the parameter out."""
Query = Mapping[str, Value]


AGAIN = "the same request must get the same decision"


@dataclass(frozen=True, slots=True)
class DecodingMarker:
    """A text that is in a reply only if the server decoded the request wrongly."""

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
    """The alias in the path: raw text as it is sent, or a placeholder."""
    escape: Callable[..., str] = quote_plus
    same_as: str = ""
    because: str = AGAIN
    certain: bool = True
    strain: bool = False
    breakout: str = ""
    """UUID of a breakout room, if an answer of the server announced it."""
    traces: tuple[DecodingMarker, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """The requests of one call, search or registration, in their order."""

    name: str
    steps: tuple[Step, ...]


class CallState:
    """The state of a node during one flow."""

    def __init__(self, alias: str, caller: str) -> None:
        self.alias = alias
        self.caller = caller
        self.service: Mapping[str, Any] = {}
        self._name = alias
        self._previous = ""

    def value(self, slot: Placeholder) -> str:
        """Return the value of a placeholder at this point of the flow."""
        return {
            Placeholder.ALIAS: self.alias,
            Placeholder.SIP_ALIAS: sip_uri(self.alias),
            Placeholder.CALLER: self.caller,
            Placeholder.SERVICE_NAME: self._name,
            Placeholder.SERVICE_TAG: str(self.service.get("service_tag", "")),
            Placeholder.PREVIOUS_NAME: self._previous,
        }[slot]

    def learn(self, service: Mapping[str, Any], asked: Mapping[str, str]) -> None:
        """Store the service of an answer.

        Without one the node uses its own service of that alias.
        """
        if asked.get("previous_service_name"):
            self._previous = self._name
        self.service = service
        self._name = str(service.get("name") or asked.get("local_alias") or self.alias)

    def pairs(self, query: Query) -> list[tuple[str, str]]:
        """Return the parameters as they are sent."""
        found: list[tuple[str, str]] = []
        for name, value in query.items():
            if isinstance(value, tuple):
                found += [(name, one) for one in value]
            elif value is not None:
                found.append((name, self.value(value) if isinstance(value, Placeholder) else value))
        return found

    def target(self, step: Step, pairs: list[tuple[str, str]]) -> str:
        """Return the path and query of a step, exactly as they are sent."""
        alias = (
            quote(self.value(step.alias), safe="")
            if isinstance(step.alias, Placeholder)
            else step.alias
        )
        return f"{ENDPOINTS[step.endpoint].path}{alias}?{urlencode(pairs, quote_via=step.escape)}"


def sip_uri(alias: str) -> str:
    """Return the full SIP URI of an alias; a bare name gets the host example.com."""
    if alias.partition(":")[0].lower() in ("sip", "sips"):
        return alias
    return f"sip:{alias}" if "@" in alias else f"sip:{alias}@example.com"
