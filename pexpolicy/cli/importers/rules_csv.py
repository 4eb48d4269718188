"""Rules as plain tables, in a file of their own and in CSV."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import tomlkit

from pexpolicy.cli.importers.toml_format import block, dotted_lines
from pexpolicy.cli.importers.toml_merge import (
    ImportFailed,
    MergeSummary,
    plain,
    read_document,
    same_shape,
    update,
    with_blocks,
    write_document,
)
from pexpolicy.config.csv_tables import (
    Row,
    TableError,
    TableIssue,
    TableRow,
    read_table,
    write_table,
)
from pexpolicy.config.problems import Problem, dotted_key, problems_of
from pexpolicy.config.settings import SettingsError
from pexpolicy.plugins.discovery import discover

Rule = dict[str, Any]
HEADER = "[[rules]]"
_HEADER_LINE = re.compile(r"[ \t]*\[\[[ \t]*rules[ \t]*\]\]")


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
    faults: list[TableIssue] = []
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
    """Rules as the text of a CSV file, which ``read_csv`` reads back.

    Raises ``ImportFailed`` for what is no rule, and for one that no CSV file can hold.
    """
    try:
        return write_table(map(_row, rules), RuleRow)
    except pydantic.ValidationError as error:
        told = "; ".join(map(str, problems_of(error, RuleRow)))
        raise ImportFailed(f"what is no rule cannot be exported: {told}") from None
    except ValueError as error:
        raise ImportFailed(str(error)) from None


def _row(written: Mapping[str, Any]) -> RuleRow:
    rule = normal(written)
    return RuleRow(
        name=rule.get("name", ""),
        endpoint=rule["endpoint"],
        enabled=rule.get("enabled", True),
        when="\n".join(dotted_lines(rule.get("when", {}))),
        then="\n".join(dotted_lines(rule["then"])),
    )


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
    """The rules of a rule file as plain tables; raises ``ImportFailed``."""
    document = plain(read_document(path))
    if others := [key for key in document if key != "rules"]:
        raise ImportFailed(f"{path} is no file of rules: it holds {', '.join(others)}")
    return _tables(document.get("rules", []), path, HEADER)


def rules_to_export(path: Path) -> tuple[list[Rule], list[str]]:
    """The rules of a rule file, or those that stand in a configuration, and which of its files are
    not among them; raises ``ImportFailed``.
    """
    settings: Any = plain(read_document(path))
    for key in ("plugins", "rules", "settings"):
        if not isinstance(settings, dict) or key not in settings:
            return rules_in(path), []
        settings = settings[key]
    settings = settings if isinstance(settings, dict) else {}
    files = ", ".join(map(str, settings.get("files", [])))
    if "rules" not in settings:
        has = f"has its rules in {files}: export each of these" if files else "has no rules"
        raise ImportFailed(f"{path} is a configuration that {has}")
    rules = _tables(settings["rules"], path, "[[plugins.rules.settings.rules]]")
    return rules, [f"the rules in {files} are not among these"] if files else []


def _tables(found: Any, path: Path, header: str) -> list[Rule]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ImportFailed(f"{path} is no file of rules: each stands below a line {header}")
    return found


def merge(
    path: Path, rules: Sequence[Rule], comments: Mapping[str, tuple[str, ...]] | None = None
) -> MergeSummary:
    """Bring rules into a rule file: those it has by the same name are updated where they stand,
    others are appended. ``comments`` go above new rules. Raises ``ImportFailed``.
    """
    rules_in(path)
    document = read_document(path)
    tables = list(document.get("rules", []))
    there = {str(table.get("name")): number for number, table in enumerate(tables)}
    changes = MergeSummary(kept=[name for name in there if name not in {r["name"] for r in rules}])
    blocks: list[str] = []
    rewritten: dict[int, Rule] = {}
    for rule in rules:
        name = rule["name"]
        number = there.get(name)
        if number is None:
            blocks.append(block(HEADER, rule, (comments or {}).get(name, ())))
            changes.added.append(name)
        elif normal(plain(tables[number])) == rule:
            changes.unchanged.append(name)
        else:
            wanted = _in_the_form_of(rule, plain(tables[number]))
            if same_shape(plain(tables[number]), wanted):
                update(tables[number], wanted)
            else:
                rewritten[number] = wanted
            changes.changed.append(name)
    text = _rewritten(tomlkit.dumps(document), rewritten)
    if blocks or changes.changed:
        text = with_blocks(text, blocks)
        _verify(text, rules)
        write_document(path, text)
    return changes


def _rewritten(text: str, rules: Mapping[int, Rule]) -> str:
    """The text with some of its rules written anew, by their numbers; their header lines and the
    comments on lines of their own stay.
    """
    lines = text.split("\n")
    starts = [n for n, line in enumerate(lines) if _HEADER_LINE.match(line)]
    for number in sorted(rules, reverse=True):
        if number >= len(starts):
            break
        start = starts[number]
        end = starts[number + 1] if number + 1 < len(starts) else len(lines)
        while end > start + 1 and _is_aside(lines[end - 1]):
            end -= 1
        kept = [line for line in lines[start + 1 : end] if line.lstrip().startswith("#")]
        lines[start + 1 : end] = [*kept, *dotted_lines(rules[number])]
    return "\n".join(lines)


def _is_aside(line: str) -> bool:
    """True for a line that belongs to what follows it: a comment, or nothing."""
    return not line.strip() or line.lstrip().startswith("#")


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
    """What is to be written says what was meant; raises ``ImportFailed``."""
    try:
        tables = tomllib.loads(text).get("rules", [])
    except tomllib.TOMLDecodeError:
        tables = []
    written = {rule.get("name"): normal(rule) for rule in tables}
    wrong = [rule["name"] for rule in rules if written.get(rule["name"]) != rule]
    if wrong:
        raise ImportFailed(f"the rule {wrong[0]!r} cannot be updated where it stands: delete it")


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
    below = dotted_key(problem.key[2:])
    text = f"{below}: {problem.text}" if below else problem.text
    return (number if isinstance(number, int) else 0), text
