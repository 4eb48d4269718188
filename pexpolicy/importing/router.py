"""Rules out of the CSV file of a server that routed policy requests by regular expressions.

Its rules searched the dialed alias as it came, with case, in order of priority. The first that
matched either answered by itself or passed the request on to another policy server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from pexpolicy.discovery import discover
from pexpolicy.importing.rule_tables import Rule
from pexpolicy.importing.toml_text import block
from pexpolicy.matching import Pattern, PatternError
from pexpolicy.problems import problems_of
from pexpolicy.replies import Disposition, read_envelope
from pexpolicy.tabular import Fault, Row, TableError, TableRow, read_table
from pexpolicy.text import brief

UPSTREAM = "plugins.upstream.settings"
ENDPOINTS = {"service": "service_configuration", "participant": "participant_properties"}


class RouterRow(TableRow):
    """One row. The first six columns are those of the server's own export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    regex: str
    priority: int = 100
    is_active: bool = True
    service_target_url: str = ""
    participant_target_url: str = ""
    protocols: list[str] | None = None
    call_directions: list[str] | None = None
    always_continue_service: bool = False
    override_service_response: str = ""
    always_continue_participant: bool = False
    override_participant_response: str = ""
    source_match: str = ""


@dataclass(slots=True)
class Routed:
    """What the rows amount to: rules in their order, and where requests were passed on to."""

    rules: list[Rule] = field(default_factory=list)
    comments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By rule: what stands above it."""
    targets: dict[str, list[tuple[list[str], Mapping[str, Any]]]] = field(default_factory=dict)
    """By URL: which endpoints went there, and when."""
    remarks: list[str] = field(default_factory=list)


def read_router(path: Path) -> Routed:
    """The rules of a CSV file in the order in which they were tried; raises ``TableError``."""
    routed = Routed()
    faults: list[Fault] = []
    rows = sorted(read_table(path, RouterRow), key=lambda row: row.values.priority)
    for row in rows:
        try:
            _convert(row, routed)
        except (PatternError, ValueError) as error:
            faults.append(row.fault(str(error)))
    if faults:
        raise TableError(faults)
    return routed


def _convert(row: Row[RouterRow], routed: Routed) -> None:
    values = row.values
    when = _when(values)
    thens: dict[str, tuple[Mapping[str, Any], str]] = {}
    for kind, endpoint in ENDPOINTS.items():
        if (decided := _then(values, kind, routed.remarks)) is not None:
            thens[endpoint] = decided
    if not thens:
        routed.remarks.append(f"line {row.line}: {values.name} decided nothing, and is left out")
        return
    same = len({json.dumps(decided, sort_keys=True) for decided in thens.values()}) == 1
    groups = [list(thens)] if same else [[endpoint] for endpoint in thens]
    for endpoints in groups:
        name = values.name if len(groups) == 1 else f"{values.name} ({endpoints[0]})"
        rule: Rule = {"name": name, "endpoint": endpoints, "when": when}
        rule["then"] = dict(thens[endpoints[0]][0])
        if not values.is_active:
            rule["enabled"] = False
        routed.rules.append(rule)
        if url := thens[endpoints[0]][1]:
            routed.comments[name] = (f"Went to {url}: the plugin upstream is asked next.",)
            if values.is_active:
                routed.targets.setdefault(url, []).append((endpoints, when))


def _then(values: RouterRow, kind: str, remarks: list[str]) -> tuple[Mapping[str, Any], str] | None:
    """What a rule decides at one endpoint, and the URL that it passed requests on to."""
    if getattr(values, f"always_continue_{kind}"):
        written = getattr(values, f"override_{kind}_response")
        return answer(written, kind, lambda text: remarks.append(f"{values.name}: {text}")), ""
    if url := getattr(values, f"{kind}_target_url"):
        if values.is_active and (complaint := _complaint(url)):
            raise ValueError(f"{kind}_target_url: {complaint}")
        return {"action": "abstain"}, url
    return None


def _complaint(url: str) -> str:
    """Why the plugin that passes requests on would refuse a URL; empty where it takes it."""
    found, _ = discover(())
    available = found.get("upstream")
    if available is None:
        return ""
    settings: Any = available.load().Settings
    try:
        settings.model_validate({"targets": {"t": {"url": url}}})
    except ValidationError as error:
        return "; ".join(p.text for p in problems_of(error, settings) if p.key[-1:] == ("url",))
    return ""


def answer(
    written: str, kind: str, remarks: Callable[[str], None] = lambda _: None
) -> Mapping[str, Any]:
    """The decision that a whole reply in JSON stands for; raises ``ValueError``.

    ``remarks`` is told what was put right in it.
    """
    try:
        reply = json.loads(written) if written else {}
    except ValueError as error:
        raise ValueError(f"override_{kind}_response is no JSON: {error}") from None
    if not isinstance(reply, dict):
        raise ValueError(f"override_{kind}_response is no JSON object")  # noqa: TRY004 - of a file
    reading = read_envelope(ENDPOINTS[kind], reply)
    result = reply.get("result")
    if reading.disposition is Disposition.DROPPED and isinstance(result, dict):
        whole = read_envelope(ENDPOINTS[kind], {**reply, "result": _without_nothing(result)})
        reading = whole if whole.disposition is Disposition.RESULT else reading
    if reading.disposition is Disposition.REJECT:
        return {"action": "reject", **{n: v for n, v in reading.result.items() if v}}
    if reading.disposition is Disposition.REDIRECT:
        return {"action": "redirect", "new_alias": reading.result["new_alias"]}
    if reading.disposition is Disposition.RESULT:
        for repair in reading.repairs:
            remarks(f"override_{kind}_response: {repair}")
        return {"result": _without_nothing(reading.result)}
    if reply.get("action") not in (None, "continue"):
        hint = "write continue, reject, or redirect with a new_alias in its result"
        said = brief(reply["action"])
        raise ValueError(f"override_{kind}_response has the action {said}: {hint}")
    if reading.disposition is Disposition.DROPPED:
        raise ValueError(f"override_{kind}_response: {reading.text}")
    return {"action": "continue"}


def _without_nothing(fields: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null, and a field that is not there says the same."""
    return {
        name: _without_nothing(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


def _when(values: RouterRow) -> dict[str, Any]:
    pattern = searched(values.regex)
    Pattern(pattern)
    when: dict[str, Any] = {"local_alias": {"raw": {"regex": pattern, "case_sensitive": True}}}
    # A request that did not say its protocol or direction was taken.
    limits = [
        {"any": [{parameter: allowed}, {parameter: {"exists": False}}]}
        for parameter, allowed in (
            ("protocol", values.protocols),
            ("call_direction", values.call_directions),
        )
        if allowed
    ]
    if limits:
        when |= limits[0] if len(limits) == 1 else {"all": limits}
    if values.source_match:
        when["peer"] = values.source_match
    return when


def searched(regex: str) -> str:
    """A pattern that matches a whole text where the old one was found somewhere in it."""
    if regex in ("", ".*", "^.*$", "^", "$"):
        return ".*"
    if regex.startswith("^") and regex.endswith("$") and not _is_odd(regex):
        return regex[1:-1]
    if regex.startswith("^") and not _is_odd(regex):
        return f"{regex[1:]}.*"
    if regex.endswith("$") and not _is_odd(regex):
        return f".*{regex[:-1]}"
    return f".*(?:{regex}).*"


def _is_odd(regex: str) -> bool:
    """True where an anchor may belong to a part of the pattern, or be no anchor."""
    return "|" in regex or regex.endswith("\\$") or regex.count("(") != regex.count(")")


def advice(routed: Routed) -> str:
    """Tables for the plugin that passes requests on, to be looked through by hand."""
    targets, routes = [], []
    for number, (url, routed_there) in enumerate(routed.targets.items(), 1):
        name = f"server{number}"
        targets.append(block(f"[{UPSTREAM}.targets.{name}]", {"url": url}))
        for endpoints, when in routed_there:
            route = {"targets": [name], "endpoints": endpoints, "when": when}
            routes.append(block(f"[[{UPSTREAM}.routes]]", route))
    return "\n".join([*targets, *routes])
