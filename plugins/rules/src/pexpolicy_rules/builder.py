"""The builder of rules from settings and files, with all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any

from pexpolicy import (
    ConfigWarning,
    Key,
    Problem,
    dotted_key,
    track_file,
)
from pexpolicy.config.csv_tables import TableError
from pexpolicy.config.toml_tables import Table, read_tables
from pexpolicy.matching import compile_when, group_names
from pexpolicy_rules.decisions import Answer
from pexpolicy_rules.parser import as_written, literal_placeholders, possible_groups, read
from pexpolicy_rules.rule_set import ReadyRule
from pexpolicy_rules.settings import Rule, Settings
from pexpolicy_rules.validation import AnswerError


class Draft:
    """The rules of the settings and of their files, as far as they are sound."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.rules: list[ReadyRule] = []
        self.problems: list[Problem] = []
        self.advice: list[ConfigWarning] = []
        self.files: list[Path] = []
        """What was read: files of rules, and pictures."""
        self._clock = clock
        self._extras = settings.extras
        self._named: dict[str, str] = {}
        for number, table in enumerate(settings.rules):
            self._add(table, ("rules", number), None, settings.root)
        for written in settings.files:
            self._add_files(written, settings.root)

    def _add_files(self, written: str, root: Path) -> None:
        pattern = str(Path(escape(str(root)), written))
        paths = sorted(glob(pattern))  # noqa: PTH207 - the pattern may be absolute
        if not paths:
            track_file(_before_wildcards(root / written))
            self.problems.append(Problem(("files",), f"there is no file {written}"))
        for path in map(Path, paths):
            self.files.append(path)
            try:
                tables, faults = read_tables(path, "rules")
            except TableError as error:
                self.problems += error.under(("files",))
                continue
            self.problems += TableError(faults).under(("files",))
            for table in tables:
                self._add(table.values, ("files",), table, root)

    def _add(self, written: dict[str, Any], key: Key, table: Table | None, root: Path) -> None:
        rule, faults = read(written, root)
        if (told := self._namesake(written.get("name"), table)) is not None:
            faults.append((("name",), told))
        if rule is not None:
            unread = any(below[:1] == ("when",) for below, _ in faults)
            possible = possible_groups(written.get("when")) if unread else None
            faults += self._ready(rule, key, table, possible, sound=not faults)
            if rule.enabled:
                self._warn_of_literals(rule, key, table, written)
        for below, text in dict.fromkeys(faults):
            place = as_written(below, written)
            if table is not None:
                self.problems.append(Problem(key, str(table.fault(place, text))))
            else:
                self.problems.append(Problem((*key, *place), f"{text}{_whose(written)}"))

    def _warn_of_literals(
        self, rule: Rule, key: Key, table: Table | None, written: Mapping[str, Any]
    ) -> None:
        shown = f"{rule.name!r} ({_place(table)})" if table is not None else repr(rule.name)
        for below, text in literal_placeholders(written.get("when"), ("when",)):
            told = (
                f"rule {shown}: {dotted_key(below)} = {text!r} is compared as it stands: there are "
                "placeholders below then, and none below when"
            )
            self.advice.append(ConfigWarning(key, told))

    def _namesake(self, name: object, table: Table | None) -> str | None:
        """What to say of a name that an earlier rule has, and take note of it."""
        if not isinstance(name, str) or not name:
            return None
        if (before := self._named.get(name)) is not None:
            return f"there is a rule called {name!r} already{before}; give it a name of its own"
        self._named[name] = f" in {_place(table)}" if table is not None else ""
        return None

    def _ready(
        self,
        rule: Rule,
        key: Key,
        table: Table | None,
        possible: Collection[str] | None,
        *,
        sound: bool,
    ) -> list[tuple[Key, str]]:
        """What is wrong with the answers of a rule; it is kept where nothing is.

        ``possible`` is what its conditions may capture where they cannot be read.
        """
        if rule.then.image is not None:
            self.files.append(rule.then.image)
        condition = compile_when(rule.when, self._clock)
        groups = group_names(condition) if possible is None else possible
        wrong: list[tuple[Key, str]] = []
        answers: dict[str, Answer] = {}
        for endpoint in rule.endpoint:
            try:
                answers[endpoint] = Answer(endpoint, rule.then, _reason(rule), groups, self._extras)
            except AnswerError as error:
                wrong += [(("then", *below), text) for below, text in error.faults]
        if sound and not wrong and rule.enabled:
            place = _place(table) if table is not None else ""
            ready = ReadyRule(rule.name, place, key, condition, answers)
            self.rules.append(ready)
            self.advice += [ConfigWarning(key, text) for text in _warnings(ready)]
        return wrong


def _place(table: Table) -> str:
    return f"{table.file} line {table.line}"


def _whose(written: Mapping[str, Any]) -> str:
    """Which rule of the configuration is meant: its number there counts from zero."""
    name = written.get("name")
    return f" (rule {name!r})" if isinstance(name, str) and name else ""


def _reason(rule: Rule) -> str:
    """What the audit and Pexip's support log say: which rule it was, and why."""
    said = f": {rule.then.reason}" if rule.then.reason is not None else ""
    return f"rule {rule.name}{said}"


def _warnings(rule: ReadyRule) -> Iterator[str]:
    """What Infinity may not like of a decision that is always the same."""
    told = {
        warning: None
        for answer in rule.answers.values()
        if answer.fixed is not None
        for warning in answer.fixed.warnings
    }
    for warning in told:
        yield f"rule {rule}: {warning}"


def _before_wildcards(pattern: Path) -> Path:
    """The file, or the folder in which a file would have to appear for a pattern to match."""
    for folder in (*reversed(pattern.parents), pattern):
        if has_magic(folder.name):
            return folder.parent
    return pattern
