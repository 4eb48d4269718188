"""Rules and rooms in TOML and in CSV files, as spreadsheets save them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import tomlkit
from pydantic import BeforeValidator

from pexpolicy import Problem, SettingsError
from pexpolicy.config.csv_tables import (
    Row,
    TableError,
    TableRow,
    read_table,
    write_table,
)
from pexpolicy.config.toml_tables import validated
from pexpolicy.rows import RowValues
from pexpolicy_importers.toml_merge import (
    ImportFailed,
    MergeSummary,
    block,
    dotted_lines,
    read_document,
    same_shape,
    unwrap,
    update,
    write_document,
)

if TYPE_CHECKING:
    from pexpolicy_rooms.room_files import WrittenRoom

DELIMITERS = ",;\t"
_names_delimiter = re.compile("sep=.?", re.IGNORECASE).fullmatch


def _boolean(cell: Any) -> Any:
    meant = RowValues.boolean(cell.strip()) if isinstance(cell, str) else None
    return cell if meant is None else meant


SpreadsheetBool = Annotated[bool, BeforeValidator(_boolean)]
"""A boolean as spreadsheets save it in their language, such as WAHR."""


def table_of(text: str) -> tuple[str, str, int]:
    """Return a table from its header on, its delimiter, and the number of lines above the header.

    These are blank, or the line in which Excel names the delimiter.
    """
    lines = 0
    while text:
        header, _, rest = text.partition("\n")
        if header.strip() and _names_delimiter(header.strip()) is None:
            break
        text, lines = rest, lines + 1
    return text, max(DELIMITERS, key=text.partition("\n")[0].count), lines


Rule = dict[str, Any]
HEADER = "[[rules]]"


class RuleRow(TableRow):
    """One rule in a CSV file. ``when`` and ``then`` hold lines of TOML, as in a rule file."""

    name: str
    endpoint: list[str]
    enabled: SpreadsheetBool = True
    when: str = ""
    then: str


def read_csv(path: Path) -> tuple[list[Rule], list[Row[RuleRow]]]:
    """Return the rules of a CSV file with their rows; raise ``TableError``."""
    rows = list(read_table(path, RuleRow))
    rules: list[Rule] = []
    faults: list[str] = []
    for row in rows:
        rule: Rule = row.values.model_dump(include={"name", "endpoint", "enabled"})
        for column in ("when", "then"):
            try:
                rule[column] = tomllib.loads(getattr(row.values, column))
            except (ValueError, RecursionError) as error:
                deep = isinstance(error, RecursionError)
                why = "it is nested too deeply" if deep else error
                hint = 'write lines of TOML, such as local_alias.prefix = "conf"'
                faults.append(row.fault(f"{column} is not TOML ({why}); {hint}"))
        rules.append(normal(rule))
    if faults:
        raise TableError(*faults)
    return rules, rows


def to_csv(rules: Iterable[Mapping[str, Any]]) -> str:
    """Return rules as the text of a CSV file, which ``read_csv`` reads back.

    Raise ``ImportFailed`` for an invalid rule, and for one that no CSV file can hold.
    """
    try:
        return write_table(map(_row, rules), RuleRow)
    except ValueError as error:
        raise ImportFailed(str(error)) from None


def _row(table: Mapping[str, Any]) -> RuleRow:
    rule = normal(table)
    values = {
        "name": rule.get("name", ""),
        "endpoint": rule["endpoint"],
        "enabled": rule.get("enabled", True),
        "when": "\n".join(dotted_lines(rule.get("when", {}))),
        "then": "\n".join(dotted_lines(rule["then"])),
    }
    row, problems = validated(values, RuleRow, {})
    if row is None:
        text = "; ".join(map(str, problems))
        raise ImportFailed(f"an invalid rule cannot be exported: {text}")
    return row


def normal(table: Mapping[str, Any]) -> Rule:
    """Return a rule without short forms, so that equal rules are equal tables."""
    rule = dict(table)
    endpoint, then = rule.get("endpoint", []), rule.get("then", {})
    rule["endpoint"] = list(endpoint) if isinstance(endpoint, list) else [endpoint]
    rule["then"] = dict(then) if isinstance(then, Mapping) else {"action": then}
    if rule.get("enabled") is True:
        del rule["enabled"]
    if not rule.get("when"):
        rule.pop("when", None)
    return rule


def rules_in(path: Path) -> list[Rule]:
    """Return the rules of a rule file as plain tables; raise ``ImportFailed``."""
    document = unwrap(read_document(path))
    if others := [key for key in document if key != "rules"]:
        raise ImportFailed(f"{path} is not a rule file: it holds {', '.join(others)}")
    return _tables(document.get("rules", []), path, HEADER)


def rules_to_export(path: Path) -> tuple[list[Rule], list[str]]:
    """Return the rules of a rule file or of a configuration, and remarks on those not included.

    Raise ``ImportFailed``.
    """
    settings: Any = unwrap(read_document(path))
    for key in ("plugins", "rules", "settings"):
        if not isinstance(settings, dict) or key not in settings:
            return rules_in(path), []
        settings = settings[key]
    settings = settings if isinstance(settings, dict) else {}
    listed = settings.get("files", [])
    files = ", ".join(map(str, listed if isinstance(listed, list) else [listed]))
    if "rules" not in settings:
        end = f"has its rules in {files}: export each of these" if files else "has no rules"
        raise ImportFailed(f"{path} is a configuration that {end}")
    rules = _tables(settings["rules"], path, "[[plugins.rules.settings.rules]]")
    return rules, [f"the rules in {files} are not among these"] if files else []


def _tables(found: Any, path: Path, header: str) -> list[Rule]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ImportFailed(f"{path} is not a rule file: write each rule below a line {header}")
    return found


def merge(path: Path, rules: Sequence[Rule]) -> MergeSummary:
    """Update the rules of a rule file that have the same name, and append the others.

    Raise ``ImportFailed``.
    """
    rules_in(path)
    document = read_document(path)
    tables = list(document.get("rules", []))
    numbers = {str(table.get("name")): number for number, table in enumerate(tables)}
    imported = {rule["name"] for rule in rules}
    changes = MergeSummary(kept=[name for name in numbers if name not in imported])
    blocks: list[str] = []
    for rule in rules:
        name = rule["name"]
        if (number := numbers.get(name)) is None:
            blocks.append(block(HEADER, rule))
            changes.added.append(name)
            continue
        current = unwrap(tables[number])
        if normal(current) == rule:
            changes.unchanged.append(name)
            continue
        changes.changed.append(name)
        wanted, listed = _with_short_forms(rule, current), document["rules"]
        if same_shape(current, wanted) or not isinstance(listed, tomlkit.items.AoT):
            update(tables[number], wanted)
        else:
            listed[number] = _rewritten(tables[number], wanted)
    if blocks or changes.changed:
        write_document(path, document, blocks)
    return changes


def _rewritten(table: tomlkit.items.Table, rule: Rule) -> tomlkit.items.Table:
    """Return a rule with other keys; the comments on lines of their own stay."""
    lines = table.as_string().split("\n")
    end = len(lines)
    # Comments and blank lines at the end belong to the next rule.
    while end and lines[end - 1].lstrip()[:1] in ("", "#"):
        end -= 1
    comments = [line for line in lines[:end] if line.lstrip().startswith("#")]
    text = "\n".join([HEADER, *comments, *dotted_lines(rule), *lines[end:]])
    made: tomlkit.items.Table = tomlkit.parse(text)["rules"][0]
    return made


def _with_short_forms(rule: Rule, table: Mapping[str, Any]) -> Rule:
    """Return a rule with the short forms of the current table where they mean the same."""
    wanted = dict(rule)
    for name in ("endpoint", "then"):
        if name in table and normal({name: table[name]})[name] == rule[name]:
            wanted[name] = table[name]
    if table.get("enabled") is True and "enabled" not in rule:
        wanted["enabled"] = True
    return wanted


def validation_issues(rules: Sequence[Rule], folder: Path) -> list[tuple[int, str]]:
    """Return what the plugin rules would reject, each with the number of the rule."""
    return [
        (number if isinstance(number, int) else 0, str(replace(problem, key=problem.key[2:])))
        for problem in plugin_problems("rules", {"rules": list(rules)}, folder)
        for number in problem.key[1:2] or (0,)
    ]


def plugin_problems(name: str, settings: Rule, folder: Path = Path()) -> list[Problem]:
    """Return the problems of settings for a plugin; none if it is not installed."""
    for entry in metadata.entry_points(group="pexpolicy", name=name):
        plugin: Any = entry.load()
        checked, problems = validated(settings, plugin.Settings, {"root": folder})
        if checked is None:
            return problems
        try:
            plugin(checked)
        except SettingsError as error:
            return list(error.problems)
    return []


FIRST = ("aliases", "name")
"""The columns on the left; the others follow in alphabetical order."""
_RECIPE = "is calculated: a CSV file cannot say so; write it for all rooms, or as text"
_SETTINGS = ("plugins", "rooms", "settings")


def rooms_to_export(path: Path) -> tuple[str, list[str]]:
    """Return all rooms of a configuration or of a file of rooms as CSV, with remarks.

    Raise ``ImportFailed``.
    """
    try:
        from pexpolicy_rooms.room_files import written_rooms  # noqa: PLC0415 - another package
        from pexpolicy_rooms.settings import Settings  # noqa: PLC0415 - the same
    except ImportError:
        raise ImportFailed("the package pexpolicy-rooms is needed: install it") from None
    tables, remarks = _room_settings(path)
    settings, problems = validated(tables, Settings, {"root": path.parent})
    if settings is not None:
        found = list(written_rooms(settings, settings.extras, problems))
        if not problems and found:
            return rooms_csv(found), remarks
    raise ImportFailed("\n".join(map(str, problems)) or f"{path} has no rooms")


def _room_settings(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of ``rooms`` without what no CSV file of rooms holds, and remarks."""
    document: Any = unwrap(read_document(path))
    if "rooms" in document and "plugins" not in document:
        return {"files": [path.name]}, []
    for key in _SETTINGS:
        document = document.get(key, {}) if isinstance(document, dict) else {}
    remarks = []
    if "source" in document:
        remarks.append(f"the rooms of the source {document['source']} are not among these")
    if "pins" in document:
        remarks.append(f"the PINs in {document['pins']} are not among these")
    others = ("source", "query", "every", "cache", "pins")
    return {key: value for key, value in document.items() if key not in others}, remarks


def rooms_csv(rooms: Iterable[WrittenRoom]) -> str:
    """Return rooms as the text of a CSV file; raise ``ImportFailed`` for one it cannot hold."""
    lines = [_line(room) for room in rooms]
    used = {name for line in lines for name in line}
    columns: dict[str, Any] = dict.fromkeys(FIRST, (str, ...))
    columns |= dict.fromkeys(sorted(used - columns.keys()), (str | None, None))
    model = pydantic.create_model("RoomLine", __base__=TableRow, **columns)
    try:
        return write_table((model(**line) for line in lines), model)
    except ValueError as error:
        raise ImportFailed(str(error)) from None


def _line(room: WrittenRoom) -> dict[str, str]:
    from pexpolicy_rooms.room_files import field_values  # noqa: PLC0415 - another package

    aliases = " ".join(room.aliases)
    fields = {name: _plain(value) for name, value in room.fields.items()}
    if fields.get("service_tag") == "":
        del fields["service_tag"]  # what a room without one has
    line = {name: _cell(room, name, value) for name, value in fields.items()}
    if aliases.split() != room.aliases:
        raise _refusal(room, "aliases", "holds a blank, which separates aliases")
    if "name" not in line:
        raise _refusal(room, "name", "is missing")
    read = field_values(line)
    for name, cell in line.items():
        is_same = read.get(name) == fields[name] and type(read[name]) is type(fields[name])
        if not is_same or not cell or cell != cell.strip() or "\0" in cell:
            text = "has blanks around it, NUL, or no text: it would be read back differently"
            raise _refusal(room, name, text)
    return {"aliases": aliases, **line}


def _cell(room: WrittenRoom, name: str, value: Any) -> str:
    if name in ("pin", "guest_pin") and isinstance(value, Mapping):
        raise _refusal(room, name, _RECIPE)
    value = _plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a date or a time as text."""
    return value.isoformat() if isinstance(value, date) else value


def _refusal(room: WrittenRoom, name: str, text: str) -> ImportFailed:
    return ImportFailed(str(Problem((*room.key, name), text)))
