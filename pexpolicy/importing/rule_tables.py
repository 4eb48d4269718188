"""Rules as plain tables, in a file of their own and in CSV."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from pexpolicy.config import SettingsError
from pexpolicy.discovery import discover
from pexpolicy.importing.merging import (
    Changes,
    NotImportedError,
    plain,
    read_document,
    update,
    with_blocks,
    write_document,
)
from pexpolicy.importing.toml_text import block, dotted_lines
from pexpolicy.problems import Problem, dotted, problems_of
from pexpolicy.tabular import Fault, Row, TableError, TableRow, read_table, write_table

Rule = dict[str, Any]
HEADER = "[[rules]]"


class RuleRow(TableRow):
    """One rule in a CSV file. ``when`` and ``then`` hold lines of TOML, as in a rule file."""

    name: str
    endpoint: list[str]
    enabled: bool = True
    when: str = ""
    then: str


def read_csv(path: Path) -> tuple[list[Rule], list[Row[RuleRow]]]:
    """The rules of a CSV file with their rows; raises ``TableError``."""
    rows = read_table(path, RuleRow)
    rules: list[Rule] = []
    faults: list[Fault] = []
    for row in rows:
        values = row.values
        rule: Rule = {"name": values.name, "endpoint": values.endpoint}
        for column in ("when", "then"):
            try:
                rule[column] = tomllib.loads(getattr(values, column))
            except tomllib.TOMLDecodeError as error:
                hint = 'write lines of TOML, such as local_alias.prefix = "conf"'
                faults.append(row.fault(f"{column} is no TOML ({error}); {hint}"))
        if not values.enabled:
            rule["enabled"] = False
        rules.append(normal(rule))
    if faults:
        raise TableError(faults)
    return rules, rows


def to_csv(rules: Iterable[Mapping[str, Any]]) -> str:
    """Rules as the text of a CSV file, which ``read_csv`` reads back."""
    rows = (
        RuleRow(
            name=rule["name"],
            endpoint=rule["endpoint"],
            enabled=rule.get("enabled", True),
            when="\n".join(dotted_lines(rule.get("when", {}))),
            then="\n".join(dotted_lines(rule["then"])),
        )
        for rule in map(normal, rules)
    )
    return write_table(rows, RuleRow)


def normal(rule: Mapping[str, Any]) -> Rule:
    """A rule without the short forms, so that equal rules are equal tables."""
    given = dict(rule)
    endpoint, then = given.get("endpoint", []), given.get("then", {})
    given["endpoint"] = [endpoint] if isinstance(endpoint, str) else list(endpoint)
    given["then"] = {"action": then} if isinstance(then, str) else dict(then)
    if given.get("enabled") is True:
        del given["enabled"]
    if not given.get("when"):
        given.pop("when", None)
    return given


def rules_in(path: Path) -> list[Rule]:
    """The rules of a rule file as plain tables; raises ``NotImportedError``."""
    tables = plain(read_document(path)).get("rules", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise NotImportedError(f"{path} is no file of rules: each stands below a line {HEADER}")
    return tables


def merge(
    path: Path, rules: Sequence[Rule], comments: Mapping[str, tuple[str, ...]] | None = None
) -> Changes:
    """Bring rules into a rule file: those it has by the same name are updated where they stand,
    others are appended. ``comments`` go above new rules. Raises ``NotImportedError``.
    """
    rules_in(path)
    document = read_document(path)
    there = {str(table.get("name")): table for table in document.get("rules", [])}
    changes = Changes(kept=[name for name in there if name not in {r["name"] for r in rules}])
    blocks: list[str] = []
    for rule in rules:
        name = rule["name"]
        table = there.get(name)
        if table is None:
            blocks.append(block(HEADER, rule, (comments or {}).get(name, ())))
            changes.added.append(name)
        elif normal(plain(table)) == rule:
            changes.unchanged.append(name)
        else:
            update(table, _in_the_form_of(rule, plain(table)))
            changes.changed.append(name)
    text = with_blocks(document, blocks)
    _verify(text, rules)
    if blocks or changes.changed:
        write_document(path, text)
    return changes


def _in_the_form_of(rule: Rule, table: Mapping[str, Any]) -> Rule:
    """A rule with the short forms that stand in the file, where they say the same."""
    told = dict(rule)
    for name in ("endpoint", "then"):
        if name in table and normal({name: table[name]})[name] == rule[name]:
            told[name] = table[name]
    if table.get("enabled") is True and "enabled" not in rule:
        told["enabled"] = True
    return told


def _verify(text: str, rules: Sequence[Rule]) -> None:
    """What was written says what was meant; raises ``NotImportedError`` before a file is touched."""
    written = {rule["name"]: normal(rule) for rule in tomllib.loads(text).get("rules", [])}
    wrong = [rule["name"] for rule in rules if written.get(rule["name"]) != rule]
    if wrong:
        raise NotImportedError(
            f"the rule {wrong[0]!r} cannot be updated where it stands: delete it there"
        )


def refused(rules: Sequence[Rule], folder: Path) -> list[tuple[int, str]]:
    """What the plugin that reads the rules would refuse, each with the number of the rule."""
    found, _ = discover(())
    available = found.get("rules")
    if available is None:
        return []
    plugin: Any = available.load()
    try:
        plugin(plugin.Settings.model_validate({"rules": list(rules)}, context={"root": folder}))
    except pydantic.ValidationError as error:
        return [_numbered(problem) for problem in problems_of(error, plugin.Settings)]
    except SettingsError as error:
        return [_numbered(problem) for problem in error.problems]
    return []


def _numbered(problem: Problem) -> tuple[int, str]:
    number = problem.key[1] if len(problem.key) > 1 else 0
    below = dotted(problem.key[2:])
    text = f"{below}: {problem.text}" if below else problem.text
    return (number if isinstance(number, int) else 0), text
