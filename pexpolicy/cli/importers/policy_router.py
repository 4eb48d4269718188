"""Rules out of the CSV export of a server that routes policy requests by regular expressions.

It searches its expressions in the dialed alias as it came, with case, in order of priority. The
first rule that matches either answers by itself or passes the request on to another policy server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pexpolicy.cli.importers.python_patterns import (
    ANYTHING,
    UncompilableError,
    matches_empty,
    searched,
)
from pexpolicy.cli.importers.router_export import RouterRow, left_out, read_export
from pexpolicy.cli.importers.rules_csv import Rule, refused
from pexpolicy.cli.importers.static_replies import Then, decision_in
from pexpolicy.cli.importers.toml_format import block
from pexpolicy.config.csv_tables import TableIssue
from pexpolicy.config.problems import problems_of
from pexpolicy.matching import PatternError
from pexpolicy.plugins.discovery import discover
from pexpolicy.text import brief

UPSTREAM = "plugins.upstream.settings"
ENDPOINTS = {"service": "service_configuration", "participant": "participant_properties"}
MAX_NAME = 100
"""Characters that the name of a rule may have."""
_PART_OF_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f.]*:[0-9a-f:.]*")


@dataclass(frozen=True, slots=True)
class Target:
    """A policy server that requests were passed on to."""

    url: str
    user: str = ""


@dataclass(slots=True)
class RouterImport:
    """What the rows amount to: rules in their order, and where requests were passed on to."""

    rules: list[Rule] = field(default_factory=list)
    comments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By rule: what stands above it."""
    targets: dict[Target, list[Mapping[str, Any]]] = field(default_factory=dict)
    """Which endpoints went there, and when."""
    remarks: list[str] = field(default_factory=list)
    faults: list[TableIssue] = field(default_factory=list)
    """The rows that could not be taken, and why."""


def read_router(path: Path, into: Path = Path()) -> RouterImport:
    """Return the rules of a CSV file in the order in which they were tried, and the rows that
    cannot be taken.

    ``into`` is the folder of the rule file. Raises ``TableError`` for a file without such rows.
    """
    routed = RouterImport()
    rows = sorted(read_export(path, routed.faults, routed.remarks), key=lambda row: row[1].priority)
    names: set[str] = set()
    found: list[_Made] = []
    for line, row in rows:
        try:
            found += _convert(line, row, names, routed.remarks)
        except (PatternError, ValueError) as error:
            routed.faults.append(left_out(path.name, line, str(error), row.name))
    wrong = refused([made.table for made in found], into)
    for number, text in wrong:
        made = found[number]
        routed.faults.append(left_out(path.name, made.line, text, made.row.name))
    lines = {fault.line for fault in routed.faults}
    for made in found:
        if made.line not in lines:
            _keep(made, routed)
    routed.faults.sort(key=lambda fault: fault.line)
    if any(row.source_match for _, row in rows):
        text = "a source_match is searched for in the address, as there: 10.0.0.1 is in 10.0.0.10"
        routed.remarks.append(f'{text}; write when.peer = "10.0.0.1" for that address only')
    return routed


@dataclass(frozen=True, slots=True)
class _Made:
    """A rule made of the row on a line, and the URL that it passes requests on to."""

    line: int
    row: RouterRow
    table: Rule
    url: str


def _convert(line: int, row: RouterRow, names: set[str], remarks: list[str]) -> list[_Made]:
    """Return the rules that a row amounts to: one, or one for each endpoint."""
    try:
        when = _when(row)
    except UncompilableError as error:
        text = f"{brief(row.regex)} is no regular expression ({error}), so it never matched"
        remarks.append(f"line {line}: {row.name} is left out: {text}")
        return []
    thens: dict[str, tuple[Then, str]] = {}
    for kind, endpoint in ENDPOINTS.items():
        said: list[str] = []
        if (decided := _then(row, kind, said)) is not None:
            thens[endpoint] = decided
        remarks += [f"line {line}: {row.name}: override_{kind}_response: {s}" for s in said]
    if not thens:
        remarks.append(f"line {line}: {row.name} decided nothing, and is left out")
        return []
    same = len({json.dumps(decided, sort_keys=True) for decided in thens.values()}) == 1
    groups = [list(thens)] if same else [[endpoint] for endpoint in thens]
    made = []
    for endpoints in groups:
        name = _unique(row.name, "" if len(groups) == 1 else f" ({endpoints[0]})", names)
        rule: Rule = {"name": name, "endpoint": endpoints}
        if when:
            rule["when"] = when
        rule["then"] = dict(thens[endpoints[0]][0])
        if not row.is_active:
            rule["enabled"] = False
        made.append(_Made(line, row, rule, thens[endpoints[0]][1]))
    return made


def _unique(name: str, ending: str, names: set[str]) -> str:
    """Return a name that no other rule has: the router allowed several rules of one name."""
    number = 1
    while True:
        whole = ending if number == 1 else f"{ending} ({number})"
        found = name[: MAX_NAME - len(whole)] + whole
        if found not in names:
            names.add(found)
            return found
        number += 1


def _keep(made: _Made, routed: RouterImport) -> None:
    row, rule = made.row, made.table
    routed.rules.append(rule)
    if not made.url:
        return
    routed.comments[rule["name"]] = (f"Went to {made.url}: the plugin upstream is asked next.",)
    if row.is_active:
        both = row.basic_auth_username and row.basic_auth_password
        target = Target(made.url, row.basic_auth_username if both else "")
        route = {name: value for name, value in rule.items() if name in ("endpoint", "when")}
        routed.targets.setdefault(target, []).append(route)


def _then(row: RouterRow, kind: str, remarks: list[str]) -> tuple[Then, str] | None:
    """Return what a rule decides at one endpoint, and the URL that it passes requests on to."""
    if getattr(row, f"always_continue_{kind}"):
        written = getattr(row, f"override_{kind}_response")
        try:
            return decision_in(written, ENDPOINTS[kind], remarks), ""
        except ValueError as error:
            raise ValueError(f"override_{kind}_response{error}") from None
    if url := getattr(row, f"{kind}_target_url"):
        if row.is_active and (complaint := _complaint(url)):
            raise ValueError(f"{kind}_target_url: {complaint}")
        return {"action": "abstain"}, url
    return None


def _complaint(url: str) -> str:
    """Return why the plugin that passes requests on would refuse a URL; empty if it would not."""
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


def _when(row: RouterRow) -> dict[str, Any]:
    """Return the condition; what a request does not say is no reason for a rule not to match."""
    alternatives = list(_alternatives(row))
    when: dict[str, Any] = {}
    for one in alternatives:
        if len(one) == 1:
            when |= one[0]
    several = [{"any": one} for one in alternatives if len(one) > 1]
    if len(several) == 1:
        when |= several[0]
    elif several:
        when["all"] = several
    return when


def _alternatives(row: RouterRow) -> Iterator[list[dict[str, Any]]]:
    """Yield what must hold; of each list one condition is enough."""
    pattern = searched(row.regex)
    if pattern != ANYTHING:
        found = {"local_alias": {"raw": {"regex": pattern, "case_sensitive": True}}}
        if matches_empty(row.regex):
            yield [found, {"local_alias": {"exists": False}}]
        else:
            yield [found]
    for parameter, allowed in (
        ("protocol", row.protocols),
        ("call_direction", row.call_directions),
    ):
        if allowed:
            yield [{parameter: allowed}, {parameter: {"exists": False}}]
    source = row.source_match.strip().lower()
    if source not in ("", "none", "null"):
        if _PART_OF_ADDRESS.fullmatch(source) is None:
            text = (
                f"source_match {brief(source)} is a name: it was compared with the name by which "
                "the router was called, which no condition knows; write addresses of nodes"
            )
            raise ValueError(text)
        yield [{"peer": {"contains": source}}]


def advice(routed: RouterImport) -> str:
    """Return tables for the plugin that passes requests on, to be looked through by hand."""
    targets, routes = [], []
    for number, (target, routed_there) in enumerate(routed.targets.items(), 1):
        name = f"server{number}"
        table = {"url": target.url}
        if target.user:
            table |= {"user": target.user, "password_file": f"{name}.password"}
        targets.append(block(f"[{UPSTREAM}.targets.{name}]", table))
        for there in routed_there:
            route = {"targets": [name], "endpoints": there["endpoint"]}
            if "when" in there:
                route["when"] = there["when"]
            routes.append(block(f"[[{UPSTREAM}.routes]]", route))
    return "\n".join([*targets, *routes])


def misplaced(routed: RouterImport, names: Sequence[str]) -> str:
    """Return the first rule that stands in the wrong order in a rule file of these names."""
    wanted = [rule["name"] for rule in routed.rules]
    there = [name for name in names if name in set(wanted)]
    return next((mine for mine, found in zip(wanted, there, strict=False) if mine != found), "")
