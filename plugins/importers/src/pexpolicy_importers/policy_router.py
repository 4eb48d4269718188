"""Importer of the CSV export of a server that routes policy requests by regular expressions.

That server searches each expression in the dialed alias as it arrived, case-sensitively, in order
of priority. The first rule that matches either answers or passes the request to another server.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict

from pexpolicy import ParticipantProperties
from pexpolicy.config.csv_tables import TableError, TableRow, in_line, read_text
from pexpolicy.config.toml_tables import validated
from pexpolicy.conformance.replies import (
    Disposition,
    NotJSONError,
    read_envelope,
    strict_json,
)
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.matching import Pattern, PatternError
from pexpolicy.models.contract import contract_of
from pexpolicy.text import brief
from pexpolicy_importers.csv_files import (
    Rule,
    SpreadsheetBool,
    plugin_problems,
    table_of,
    validation_issues,
)
from pexpolicy_importers.toml_merge import block

ANYTHING = ".*"
_TOKEN = re.compile(r"\\.?|\[\^?\]?(?:\\.|[^\]\\])*\]?|\{,(\d*)\}|.", re.DOTALL)
"""An escape, a character class, a repetition without a minimum, or one character."""
_ESCAPE = re.compile(r"\\.", re.DOTALL)


class UncompilableError(ValueError):
    """An expression that Python rejects, and which therefore never matched."""


def searched(regex: str) -> str:
    """Return a pattern that matches a whole text if Python finds ``regex`` anywhere in it.

    Raise ``UncompilableError`` for what Python rejects, and ``PatternError`` for what RE2 cannot
    express. Classes such as digits and words have letters and digits of ASCII only afterwards, and
    line breaks in a text are like any other character.
    """
    matches_empty(regex)
    pattern = _anchored(_TOKEN.sub(_translated, regex))
    Pattern(pattern)
    return pattern


def matches_empty(regex: str) -> bool:
    """Return whether Python finds the expression in an empty text; raise ``UncompilableError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.search(regex, "") is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise UncompilableError(str(error)) from None


def _anchored(regex: str) -> str:
    if regex in ("", ".*", "^.*$", "^", "$"):
        return ANYTHING
    # An anchor may belong to a part of the pattern, or be a character.
    unclear = "|" in regex or regex.endswith("\\$") or regex.count("(") != regex.count(")")
    starts, ends = regex.startswith("^"), regex.endswith("$")
    if unclear or not (starts or ends):
        return f".*(?:{regex}).*"
    inner = regex[starts : len(regex) - ends]
    # A pattern of a rule is never an empty text.
    return f"{'' if starts else '.*'}{inner or '()'}{'' if ends else '.*'}"


def _translated(token: re.Match[str]) -> str:
    """Return a token as RE2 spells it."""
    if token[0].startswith("[") and "[:" in _ESCAPE.sub("-", token[0][1:]):
        msg = "has [: in a class, which Python and RE2 read differently; write the letters"
        raise PatternError(msg)
    if token[1] is not None:
        return f"{{0,{token[1]}}}"
    return r"\z" if token[0] == r"\Z" else token[0]


def _json_list(cell: Any) -> Any:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = None
    if value is None and cell.strip() == "null":
        return []
    if not isinstance(value, list):
        msg = 'is not a JSON list; write one such as ["sip", "webrtc"]'
        raise ValueError(msg)  # noqa: TRY004 - of a file
    return value


JsonList = Annotated[list[str], BeforeValidator(_json_list)]
Reply = Annotated[str, BeforeValidator(lambda cell: "" if cell.strip() == "null" else cell)]


class RouterRow(TableRow):
    """One row of an export; early exports have the first six columns only."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    regex: str
    priority: int = 0
    is_active: SpreadsheetBool = True
    service_target_url: str = ""
    participant_target_url: str = ""
    protocols: JsonList = []
    call_directions: JsonList = []
    source_match: str = ""
    basic_auth_username: str = ""
    basic_auth_password: str = ""
    always_continue_service: SpreadsheetBool = False
    override_service_response: Reply = ""
    always_continue_participant: SpreadsheetBool = False
    override_participant_response: Reply = ""


Fault = tuple[int, str]
"""The line of a row, and what is wrong with it."""


def read_export(path: Path, faults: list[Fault], remarks: list[str]) -> list[tuple[int, RouterRow]]:
    """Return the readable rows, each with its line; what is wrong with others goes to ``faults``.

    Raise ``TableError`` for a file that is not an export.
    """
    file = path.name
    text, delimiter, above = table_of(read_text(path))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    known = RouterRow.model_fields
    rows: list[tuple[int, RouterRow]] = []
    line = above + 1
    try:
        columns = ["_".join(column.lower().split()) for column in next(lines, [])]
        wrong = [f"{name} is missing" for name in ("name", "regex") if name not in columns]
        wrong += [f"{name} appears twice" for name in known if columns.count(name) > 1]
        if wrong:
            end = f"; an export has {','.join(known)}"
            raise TableError(*(in_line(file, line, f"the column {one}{end}") for one in wrong))
        others = [name for name in columns if name and name not in known]
        remarks += [f"the column {brief(name)} is not read" for name in others]
        line = above + lines.line_num + 1
        for cells in lines:
            given = {n: cell for n, cell in zip(columns, cells, strict=False) if cell.strip()}
            if len(cells) > len(columns):
                faults.append((line, in_line(file, line, "has more cells than columns")))
            elif given:
                row, problems = validated(given, RouterRow, {})
                name = given.get("name", "")
                faults += [row_issue(file, line, str(problem), name) for problem in problems]
                if row is not None:
                    rows.append((line, row))
            line = above + lines.line_num + 1
    except csv.Error as error:
        faults.append((line, in_line(file, line, f"cannot be read ({error})")))
        if line == above + 1:
            raise TableError(*(text for _, text in faults)) from None
    return rows


def row_issue(file: str, line: int, text: str, name: str) -> Fault:
    """Return the reason for which the rule of a row is left out."""
    return line, in_line(file, line, f"{text}; rule {brief(name)} is left out")


UPSTREAM = "plugins.upstream.settings"
ENDPOINTS = {"service": "service_configuration", "participant": "participant_properties"}
MAX_NAME = 100
"""Maximum length of a rule's name, in characters."""
_PART_OF_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f.]*:[0-9a-f:.]*")
Then = dict[str, Any]


@dataclass(slots=True)
class RouterImport:
    """The rules of an export in their order, and the servers to which it passed requests."""

    rules: list[Rule] = field(default_factory=list)
    targets: dict[tuple[str, str], list[Rule]] = field(default_factory=dict)
    """By URL and user of a server: endpoints and conditions of the requests that it was sent."""
    remarks: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    """The rows that cannot be imported, and why."""


class _ConvertedRule(NamedTuple):
    """A rule, the row it was made from, and the URL to which that row passed requests."""

    line: int
    row: RouterRow
    table: Rule
    url: str


def read_router(path: Path, into: Path = Path()) -> RouterImport:
    """Return the rules of an export in the router's order, and the rows that cannot be imported.

    ``into`` is the folder of the rule file. Raise ``TableError`` for a file that is not an export.
    """
    routed = RouterImport()
    # Of rules with the same priority the router asks the one that was saved last first. An export
    # has no times, and usually the order in which the rules were made.
    exported = reversed(read_export(path, routed.faults, routed.remarks))
    rows = sorted(exported, key=lambda row: row[1].priority)
    routed.remarks += _remarks(rows)
    names: set[str] = set()
    converted: list[_ConvertedRule] = []
    for line, row in rows:
        try:
            converted += _convert(line, row, names, routed.remarks)
        except (PatternError, ValueError) as error:
            routed.faults.append(row_issue(path.name, line, str(error), row.name))
    for number, text in validation_issues([rule.table for rule in converted], into):
        rule = converted[number]
        routed.faults.append(row_issue(path.name, rule.line, text, rule.row.name))
    failed = {line for line, _ in routed.faults}
    for rule in (rule for rule in converted if rule.line not in failed):
        routed.rules.append(rule.table)
        if rule.url and rule.row.is_active:
            user = rule.row.basic_auth_username if rule.row.basic_auth_password else ""
            routed.targets.setdefault((rule.url, user), []).append(rule.table)
    routed.faults.sort(key=itemgetter(0))
    if len(routed.targets) > 1:
        text = "a server without a decision (404) is followed by the next route that matches"
        routed.remarks.append(f"{text}, which the router did not ask")
    return routed


def _remarks(rows: Sequence[tuple[int, RouterRow]]) -> Iterator[str]:
    """Yield what the order of the rows, and their sources, may not mean."""
    active = ((line, row) for line, row in rows if row.is_active)
    for priority, group in groupby(active, key=lambda found: found[1].priority):
        lines = [str(line) for line, _ in group]
        if len(lines) > 1:
            yield (
                f"lines {', '.join(lines)} have the priority {priority}: the router asked the rule "
                "that was saved last first, which the export does not tell; they are in this "
                "order: check it"
            )
    if any(row.source_match for _, row in rows):
        yield (
            "a source_match is searched for in the address, as there: 10.0.0.1 is in 10.0.0.10; "
            'write when.peer = "10.0.0.1" for that address only'
        )


def _convert(
    line: int, row: RouterRow, names: set[str], remarks: list[str]
) -> list[_ConvertedRule]:
    """Return one rule for the row, or one for each endpoint where the decisions differ."""
    try:
        when = _when(row)
    except UncompilableError as error:
        text = f"{brief(row.regex)} is not a regular expression ({error}), so it never matched"
        remarks.append(f"line {line}: {row.name} is left out: {text}")
        return []
    thens: dict[str, tuple[Then, str]] = {}
    for kind, endpoint in ENDPOINTS.items():
        notes: list[str] = []
        if (decided := _then(row, kind, notes)) is not None:
            thens[endpoint] = decided
        remarks += [f"line {line}: {row.name}: override_{kind}_response: {n}" for n in notes]
    if not thens:
        remarks.append(f"line {line}: {row.name} is left out: it decided nothing")
        return []
    decisions = list(thens.values())
    same = all(decided == decisions[0] for decided in decisions)
    rules = []
    for endpoints in [list(thens)] if same else [[endpoint] for endpoint in thens]:
        name = unique_name(row.name, "" if same else f" ({endpoints[0]})", names)
        then, url = thens[endpoints[0]]
        rule: Rule = {"name": name, "endpoint": endpoints, "when": when, "then": dict(then)}
        if not when:
            del rule["when"]
        if not row.is_active:
            rule["enabled"] = False
        rules.append(_ConvertedRule(line, row, rule, url))
    return rules


def unique_name(name: str, suffix: str, names: set[str]) -> str:
    """Return a name that no other rule has, and add it: in the router they need not be unique."""
    ends = chain((suffix,), (f"{suffix} ({number})" for number in count(2)))
    found = (name[: MAX_NAME - len(end)] + end for end in ends)
    unique = next(one for one in found if one not in names)
    names.add(unique)
    return unique


def _then(row: RouterRow, kind: str, remarks: list[str]) -> tuple[Then, str] | None:
    """Return the decision at one endpoint, and the URL to which the row passes requests."""
    if getattr(row, f"always_continue_{kind}"):
        override = f"override_{kind}_response"
        try:
            return convert_reply(getattr(row, override), ENDPOINTS[kind], remarks), ""
        except ValueError as error:
            raise ValueError(f"{override}{error}") from None
    if url := getattr(row, f"{kind}_target_url"):
        problems = plugin_problems("upstream", {"targets": {"t": {"url": url}}})
        texts = [problem.text for problem in problems if problem.key[-1:] == ("url",)]
        if row.is_active and texts:
            raise ValueError(f"{kind}_target_url: {'; '.join(texts)}")
        return {"action": "abstain"}, url
    return None


def _when(row: RouterRow) -> dict[str, Any]:
    """Return the condition; a parameter that a request lacks does not prevent a match."""
    found = list(_alternatives(row))
    when: dict[str, Any] = dict(ChainMap(*(one[0] for one in found if len(one) == 1)))
    groups = [{"any": one} for one in found if len(one) > 1]
    return when | (groups[0] if len(groups) == 1 else {"all": groups} if groups else {})


def _alternatives(row: RouterRow) -> Iterator[list[dict[str, Any]]]:
    """Yield lists of conditions; one of each list must hold."""
    pattern = searched(row.regex)
    if pattern != ANYTHING:
        raw = {"local_alias": {"raw": {"regex": pattern, "case_sensitive": True}}}
        unset = {"local_alias": {"raw": {"exists": False}}}
        yield [raw, unset] if matches_empty(row.regex) else [raw]
    for name, allowed in (("protocol", row.protocols), ("call_direction", row.call_directions)):
        if allowed:
            # The router compares them as they are written; what nodes send is in lower case.
            sent = [value for value in allowed if value == value.lower()]
            yield [*([{name: sent}] if sent else []), {name: {"exists": False}}]
    source = row.source_match.strip().lower()
    if source not in ("", "none", "null"):
        if _PART_OF_ADDRESS.fullmatch(source) is None:
            raise ValueError(
                f"source_match {brief(source)} is a name: it was compared with the name by which "
                "the router was called, which no condition knows; write addresses of nodes"
            )
        yield [{"peer": {"contains": source}}]


def convert_reply(reply_text: str, endpoint: str, remarks: list[str]) -> Then:
    """Return a static reply in JSON as the ``then`` of a rule; an empty one is ``continue``.

    What Infinity ignores is left out and added to ``remarks``. Raise ``ValueError`` for a reply
    that no rule can give.
    """
    reply = _json_object(reply_text)
    reading = read_envelope(endpoint, reply)
    if reading.disposition is Disposition.REJECT:
        return {"action": "reject", **{n: _escaped(v) for n, v in reading.result.items() if v}}
    if reading.disposition is Disposition.REDIRECT:
        return {"action": "redirect", "new_alias": _escaped(reading.result["new_alias"])}
    if reading.disposition is Disposition.RESULT:
        remarks += reading.repairs
        return {"result": _known_fields(reading.result, endpoint, remarks)}
    if (action := reply.get("action", "continue")) not in ("continue", None):
        hint = "write continue, reject, or redirect with a new_alias in its result"
        raise ValueError(f" has the action {brief(action)}: {hint}")
    if reading.disposition is Disposition.DROPPED:
        raise ValueError(f": {reading.text}")
    return {"action": "continue"}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = strict_json(text.encode("utf-8", "surrogatepass")) if text else {}
    except NotJSONError as error:
        raise ValueError(f" is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(" is not a JSON object")  # noqa: TRY004 - of a file
    return value


def _known_fields(fields: Mapping[str, Any], endpoint: str, remarks: list[str]) -> dict[str, Any]:
    is_service = endpoint == "service_configuration"
    model = SERVICE_TYPES[fields["service_type"]] if is_service else ParticipantProperties
    known = {"service_type", *contract_of(model).names}
    # Where null has a meaning, it is the default.
    given = {name: value for name, value in fields.items() if value is not None}
    remarks += [
        f"{name} is left out: Infinity knows no such field" for name in given if name not in known
    ]
    return {name: _escaped(value) for name, value in given.items() if name in known}


def _escaped(value: Any) -> Any:
    """Return a value with each brace doubled, so that a rule reads no placeholder in it."""
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    return value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value


def upstream_tables(routed: RouterImport) -> str:
    """Return tables for the plugin upstream, as a draft for the administrator.

    The routes are in the order of the rules, as the first that matches decides.
    """
    targets: list[str] = []
    routes: dict[str, str] = {}
    for number, ((url, user), rules) in enumerate(routed.targets.items(), 1):
        name = f"server{number}"
        login = {"user": user, "password_file": f"{name}.password"} if user else {}
        targets.append(block(f"[{UPSTREAM}.targets.{name}]", {"url": url, **login}))
        for rule in rules:
            route = {"targets": [name], "endpoints": rule["endpoint"]}
            if "when" in rule:
                route["when"] = rule["when"]
            routes[rule["name"]] = block(f"[[{UPSTREAM}.routes]]", route)
    order = [rule["name"] for rule in routed.rules if rule["name"] in routes]
    return "\n".join([*targets, *(routes[name] for name in order)])
