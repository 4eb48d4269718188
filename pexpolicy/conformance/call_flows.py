"""The call flows of the conformance test: requests of a node in their order, from flows.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from pexpolicy.conformance.findings import DecodingMarker
from pexpolicy.endpoints import ENDPOINTS

Query = Mapping[str, str | list[str]]
"""Parameters, some with several values; a value may be a placeholder, such as ``<caller>``."""
AGAIN = "the same request must get the same decision"
NEWEST = "v39"
_ENDPOINTS = {
    "service": "service_configuration",
    "participant": "participant_properties",
    "location": "media_location",
    "avatar": "participant_avatar",
    "directory_avatar": "participant_avatar",
    "search": "directory_information",
    "registration": "registration_alias",
}
"""The endpoint of each template."""
_NEVER_EMPTY = ("call_direction", "node_ip", "version_id")


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
    alias: str = ""
    """The alias in the path: raw text as it is sent, or a placeholder."""
    blank: str = "+"
    """How a blank is sent: as a plus, or as %20."""
    same_as: str = ""
    because: str = AGAIN
    certain: bool = True
    strain: bool = False
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

    def value(self, text: str) -> str:
        """Return a text, or the value of a placeholder at this point of the flow."""
        known = {
            "<alias>": self.alias,
            "<sip_alias>": sip_uri(self.alias),
            "<caller>": self.caller,
            "<service_name>": self._name,
            "<service_tag>": str(self.service.get("service_tag", "")),
            "<previous_name>": self._previous,
        }
        return known.get(text, text)

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
        return [
            (name, self.value(one))
            for name, value in query.items()
            for one in ([value] if isinstance(value, str) else value)
        ]

    def target(self, step: Step, pairs: list[tuple[str, str]]) -> str:
        """Return the path and query of a step, exactly as they are sent."""
        known = self.value(step.alias)
        alias = step.alias if known == step.alias else quote(known, safe="")
        escape = quote_plus if step.blank == "+" else quote
        return f"{ENDPOINTS[step.endpoint].path}{alias}?{urlencode(pairs, quote_via=escape)}"


def sip_uri(alias: str) -> str:
    """Return the full SIP URI of an alias; a bare name gets the host example.com."""
    if alias.partition(":")[0].lower() in ("sip", "sips"):
        return alias
    return f"sip:{alias}" if "@" in alias else f"sip:{alias}@example.com"


_FILE = tomllib.loads(
    (resources.files("pexpolicy.conformance") / "flows.toml").read_text(encoding="utf-8")
)
TRACES: Mapping[str, tuple[DecodingMarker, ...]] = {
    name: tuple(DecodingMarker(*marker) for marker in markers)
    for name, markers in _FILE["traces"].items()
}
"""What shows that a request was decoded wrongly, by the name of the text that is sent."""


def _parameters(parts: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts.split():
        if part.startswith("-"):
            found.pop(part[1:], None)
        else:
            found |= dict(pair.split("=", 1) for pair in _FILE["parts"][part].split())
    return found


def _step(flow: Mapping[str, Any], table: dict[str, Any]) -> Step:
    """Return a step: a template, the values of the caller, and those of the step itself."""
    table = {"version": NEWEST, "caller": "", **flow, **table}
    kind, endpoint = table["ask"], _ENDPOINTS[table["ask"]]
    query = _parameters(table.get("only") or _FILE["templates"][kind][table["version"]])
    known = _FILE["callers"].get(table["caller"], {})
    query |= {name: value for name, value in known.items() if name in query}
    for name, value in table.get("query", {}).items():
        is_many = isinstance(value, dict)
        query[name] = [value["text"].format(n) for n in range(value["times"])] if is_many else value
    if table.get("empty"):
        query = {name: query[name] if name in _NEVER_EMPTY else "" for name in query}
    for name in table.get("without", ()):
        del query[name]
    names = ("name", "blank", "same_as", "because", "certain", "strain")
    options = {name: table[name] for name in names if name in table}
    traces = TRACES.get(table.get("traces", ""), ())
    alias = table.get("alias", "<caller>" * ENDPOINTS[endpoint].path.endswith("/"))
    return Step(endpoint=endpoint, query=query, alias=alias, traces=traces, **options)


FLOWS = tuple(
    Flow(flow["name"], tuple(_step(flow, table) for table in flow["steps"]))
    for flow in _FILE["flows"]
)
"""All flows, in the order in which they are sent."""
