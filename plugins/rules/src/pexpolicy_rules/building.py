"""From rules as they are written to rules that can be asked; everything that is wrong, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from glob import escape, glob, has_magic
from pathlib import Path

from pexpolicy import (
    Advice,
    Key,
    Problem,
)
from pexpolicy.matching import compile_when, group_names
from pexpolicy.tabular import TableError
from pexpolicy.tomlfiles import read_array
from pexpolicy.watched import note
from pexpolicy_rules.answers import Answer, AnswerError
from pexpolicy_rules.chains import ReadyRule
from pexpolicy_rules.settings import Rule, Settings


class Draft:
    """The rules of the settings and of their files, as far as they are sound."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.rules: list[ReadyRule] = []
        self.problems: list[Problem] = []
        self.advice: list[Advice] = []
        self.files: list[Path] = []
        """What was read: files of rules, and pictures."""
        self._clock = clock
        self._named: dict[str, str] = {}
        for number, rule in enumerate(settings.rules):
            self._add(rule, ("rules", number), "")
        for written in settings.files:
            self._add_files(written, settings.root)

    def _add_files(self, written: str, root: Path) -> None:
        pattern = str(Path(escape(str(root)), written))
        paths = sorted(glob(pattern))  # noqa: PTH207 - the pattern may be absolute
        if not paths:
            note(_before_wildcards(root / written))
            self.problems.append(Problem(("files",), f"there is no file {written}"))
        for path in map(Path, paths):
            self.files.append(path)
            try:
                rows = read_array(path, "rules", Rule, {"root": root})
            except TableError as error:
                self.problems += error.under(("files",))
                continue
            for row in rows:
                place = f"{row.file} line {row.line}"
                self._add(row.values, ("files",), place)

    def _add(self, rule: Rule, key: Key, place: str) -> None:
        if (before := self._named.get(rule.name)) is not None:
            text = (
                f"there is a rule called {rule.name!r} already{before}; give it a name of its own"
            )
            self._complain(key, place, ("name",), text)
            return
        self._named[rule.name] = f" in {place}" if place else ""
        if rule.then.image is not None:
            self.files.append(rule.then.image)
        condition = compile_when(rule.when, self._clock)
        groups = group_names(condition)
        answers: dict[str, Answer] = {}
        for endpoint in rule.endpoint:
            try:
                answers[endpoint] = Answer(endpoint, rule.then, _reason(rule), groups)
            except AnswerError as error:
                self._complain(key, place, ("then", *error.key), str(error))
        if len(answers) == len(rule.endpoint) and rule.enabled:
            ready = ReadyRule(rule.name, place, key, condition, answers)
            self.rules.append(ready)
            self.advice += [Advice(key, text) for text in _warnings(ready)]

    def _complain(self, key: Key, place: str, below: Key, text: str) -> None:
        if place:
            where = ".".join(str(part) for part in below)
            self.problems.append(Problem(key, f"{place}: {where}: {text}"))
        else:
            self.problems.append(Problem((*key, *below), text))


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
