"""Rules of an endpoint in their order, and their builder, which reports all problems at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from glob import escape, has_magic
from pathlib import Path
from typing import Any, NamedTuple

from pexpolicy import ConfigWarning, Decision, Key, Problem, Request
from pexpolicy.config.csv_tables import TableError
from pexpolicy.config.files import files_matching
from pexpolicy.config.outgoing import revealed
from pexpolicy.config.problems import dotted_key
from pexpolicy.config.toml_tables import Table, read_tables, validated
from pexpolicy.files import read_file, track_file
from pexpolicy.matching import (
    VALUE_LISTS,
    All,
    AnyOf,
    Condition,
    Index,
    captures,
    compile_when,
    group_names,
    pitfalls,
)
from pexpolicy_rules.decisions import Answer, AnswerError
from pexpolicy_rules.settings import Rule, Settings
from pexpolicy_rules.source_lists import SourceLists

MAX_NOTES = 200
"""Maximum number of rules in an explanation."""


@dataclass(slots=True)
class Hits:
    """Number of decisions of a rule, and the time of the last one in seconds since 1970."""

    count: int = 0
    last: float | None = None


class RuleSummary(NamedTuple):
    """One rule in words, for people."""

    name: str
    endpoints: tuple[str, ...]
    condition: str
    """What a request must have; empty for a rule that matches every request."""
    actions: tuple[str, ...]
    """What it does at each endpoint, such as ``reject`` or ``result``."""
    key: Key
    """Its key in the settings, followed by its file and line if it is in a file."""


@dataclass(frozen=True, slots=True)
class ReadyRule:
    """A compiled rule. ``place`` is its file and line, ``key`` its key in the settings."""

    name: str
    place: str
    key: Key
    condition: Condition
    answers: Mapping[str, Answer]
    """The decisions by endpoint."""
    digest: str = ""
    """A hash of the rule as it is written."""
    hits: Hits = field(default_factory=Hits, compare=False)

    @property
    def summary(self) -> RuleSummary:
        """The rule in words."""
        actions = tuple(answer.action for answer in self.answers.values())
        key = (*self.key, self.place) if self.place else self.key
        return RuleSummary(self.name, tuple(self.answers), str(self.condition), actions, key)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.place})" if self.place else repr(self.name)


class RuleChain:
    """The rules of one endpoint in their order, indexed."""

    def __init__(self, endpoint: str, rules: Sequence[ReadyRule]) -> None:
        self.endpoint = endpoint
        self.rules = tuple(rule for rule in rules if endpoint in rule.answers)
        self._index = Index((rule.condition, rule) for rule in self.rules)
        self.doubt = self._index.doubt

    def decide(self, request: Request, clock: Callable[[], float]) -> Decision | None:
        """Return the decision of the first rule that matches; ``None`` to abstain.

        ``clock`` returns the time of a hit, in seconds since 1970. Raise ``DecisionError`` if the
        values of placeholders make the decision invalid.
        """
        rule = self._index.first(request)
        if rule is None:
            return None
        rule.hits.count += 1
        rule.hits.last = clock()
        answer = rule.answers[self.endpoint]
        if not answer.is_dynamic:
            return answer.fixed
        return answer.render(request, captures(rule.condition, request))

    def explain(self, request: Request) -> Iterator[str]:
        """Yield why each rule does not match, up to the one that decides."""
        for number, rule in enumerate(self.rules):
            if number == MAX_NOTES:
                yield f"and {len(self.rules) - MAX_NOTES} more rules"
                decides = self._index.first(request)
                yield f"the rule that matches: {decides}" if decides else "none of them matches"
                return
            why = rule.condition.why(request)
            if not why:
                yield f"rule {rule}: matches"
                return
            yield f"rule {rule}: {why}"


def alternatives(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions of which one is enough, those inside of others included."""
    if isinstance(condition, All | AnyOf):
        for part in condition.parts:
            if isinstance(condition, AnyOf) and len(condition.parts) > 1:
                yield part
            yield from alternatives(part)


_PLACEHOLDER = re.compile(r"\{\s*[A-Za-z_][\w.~-]*\s*\}")
_NAMED = re.compile(r"\(\?P?<(\w+)>")


def parse(
    written: Mapping[str, Any], root: Path, lists: Collection[str] = ()
) -> tuple[Rule | None, list[tuple[Key, str]]]:
    """Return the rule of a table, and the problems of the table.

    ``lists`` are the names that ``in_source`` may use.

    If there are problems, the rule is that of the valid keys, so that it can be checked further, or
    ``None`` if they are too few.
    """
    context = {"root": root, VALUE_LISTS: lists}
    rule, problems = validated(written, Rule, context)
    issues = [(problem.key, problem.text) for problem in problems]
    if problems:
        rest = _without(written, [problem.key for problem in problems])
        rule, _ = validated(rest, Rule, context)
    return rule, issues


def as_written(key: Key, written: Any) -> Key:
    """Return the key without the steps of a short form: ``then = "x"`` has no ``action``."""
    kept: list[str | int] = []
    for number, step in enumerate(key):
        if isinstance(written, dict):
            kept.append(step)
            if step not in written:
                return (*kept, *key[number + 1 :])
            written = written[step]
        elif isinstance(written, list):
            if isinstance(step, int):
                kept.append(step)
                written = written[step]
        else:
            break
    return tuple(kept)


def possible_groups(when: Any) -> Collection[str]:
    """Return all groups that an invalid condition might capture; some may not exist."""
    text = str(when)
    captures = "(" in text or "*" in text
    return {*_NAMED.findall(text), *(map(str, range(1, 100)) if captures else ())}


def literal_placeholders(when: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield operands that look like placeholders, each with its key: in ``when`` they are text.

    Patterns are skipped, as braces are repetitions there.
    """
    if isinstance(when, dict):
        for name, value in when.items():
            if not str(name).endswith("regex"):
                yield from literal_placeholders(value, (*key, name))
    elif isinstance(when, list):
        for number, value in enumerate(when):
            yield from literal_placeholders(value, (*key, number))
    elif isinstance(when, str) and _PLACEHOLDER.fullmatch(when):
        yield key, when


def _without(written: Mapping[str, Any], keys: list[Key]) -> dict[str, Any]:
    """Return a table without what has a problem, and with any name."""
    rest = {"name": "?", **deepcopy(dict(written))}
    for top, *below in filter(None, keys):
        if top == "name":
            rest["name"] = "?"
        elif top == "endpoint" and below and isinstance(rest.get(top), list):
            rest[top] = [text for text in rest[top] if text != written[top][below[0]]]
        elif top == "then" and below and isinstance(rest.get(top), dict):
            rest[top].pop(below[0], None)
        else:
            rest.pop(str(top), None)
    return rest


class RuleBuilder:
    """The valid rules of the settings and of their files, with problems and warnings."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.rules: list[ReadyRule] = []
        self.problems: list[Problem] = []
        self.warnings: list[ConfigWarning] = []
        self.files: list[Path] = []
        """Rule files and pictures."""
        self.lists = SourceLists(settings.sources, self.problems)
        self._list_names = settings.sources.keys()
        self._clock = clock
        self._extras = settings.extras
        self._secret = revealed(settings.hash_secret)
        self._places: dict[str, str] = {}
        for number, table in enumerate(settings.rules):
            self._add(table, ("rules", number), None, settings.config_folder)
        for pattern in settings.files:
            self._add_files(pattern, settings.config_folder)
        for name in sorted(self.lists.unused()):
            self.warnings.append(ConfigWarning(("sources", name), "no rule uses this list"))

    def _add_files(self, relative: str, root: Path) -> None:
        pattern = str(Path(escape(str(root)), relative))
        paths = files_matching(pattern)
        if not paths:
            track_file(_before_wildcards(root / relative))
            self.problems.append(Problem(("files",), f"there is no file {relative}"))
        for path in paths:
            self.files.append(path)
            try:
                tables, issues = read_tables(path, "rules")
            except TableError as error:
                self.problems += error.under(("files",))
                continue
            self.problems += TableError(*issues).under(("files",))
            for table in tables:
                self._add(table.values, ("files",), table, root)

    def _add(self, written: dict[str, Any], key: Key, table: Table | None, root: Path) -> None:
        rule, issues = parse(written, root, self._list_names)
        name = written.get("name")
        if isinstance(name, str) and name in self._places:
            text = f"there is a rule called {name!r} already{self._places[name]}"
            issues.append((("name",), f"{text}; choose another name"))
        elif isinstance(name, str) and name:
            self._places[name] = f" in {_place(table)}" if table is not None else ""
        if rule is not None:
            is_unclear = any(below[:1] == ("when",) for below, _ in issues)
            groups = possible_groups(written.get("when")) if is_unclear else None
            digest = _digest(written, rule.then.image)
            issues += self._compile(rule, key, table, groups, digest, valid=not issues)
            if rule.enabled:
                self._warn_of_literals(rule, key, table, written)
        for below, text in dict.fromkeys(issues):
            place = as_written(below, written)
            if table is not None:
                self.problems.append(Problem(key, table.fault(place, text)))
            else:
                # The number of the rule in the key is not enough.
                named = f" (rule {name!r})" if isinstance(name, str) and name else ""
                self.problems.append(Problem((*key, *place), f"{text}{named}"))

    def _warn_of_literals(
        self, rule: Rule, key: Key, table: Table | None, written: Mapping[str, Any]
    ) -> None:
        label = f"{rule.name!r} ({_place(table)})" if table is not None else repr(rule.name)
        for below, text in literal_placeholders(written.get("when"), ("when",)):
            warning = (
                f"rule {label}: {dotted_key(below)} = {text!r} is compared literally: write "
                f'{{ value_of = "{text.strip("{ }")}" }} for the value of the request'
            )
            self.warnings.append(ConfigWarning(key, warning))

    def _compile(
        self,
        rule: Rule,
        key: Key,
        table: Table | None,
        groups: Collection[str] | None,
        digest: str,
        *,
        valid: bool,
    ) -> list[tuple[Key, str]]:
        """Compile a rule and add it if it is ``valid``; return the problems of its answers.

        ``groups`` is what its conditions may capture if they cannot be compiled.
        """
        if rule.then.image is not None:
            self.files.append(rule.then.image)
        condition = compile_when(rule.when, self._clock, self.lists.find)
        groups = group_names(condition) if groups is None else groups
        issues: list[tuple[Key, str]] = []
        answers: dict[str, Answer] = {}
        own = f": {rule.then.reason}" if rule.then.reason is not None else ""
        reason = f"rule {rule.name}{own}"
        for endpoint in rule.endpoint:
            try:
                answers[endpoint] = Answer(
                    endpoint, rule.then, reason, groups, self._extras, self._secret
                )
            except AnswerError as error:
                issues += [(("then", *below), text) for below, text in error.issues]
        if valid and not issues and rule.enabled:
            place = _place(table) if table is not None else ""
            ready = ReadyRule(rule.name, place, key, condition, answers, digest)
            self.rules.append(ready)
            self.warnings += [ConfigWarning(key, text) for text in _warnings(ready)]
        return issues


def _digest(written: Mapping[str, Any], image: Path | None) -> str:
    """Return a hash of a rule as it is written, and of its picture."""
    digest = hashlib.blake2b(repr(written).encode("utf-8", "replace"), digest_size=16)
    if image is not None:
        with suppress(OSError):
            digest.update(read_file(image))
    return digest.hexdigest()


def _place(table: Table) -> str:
    return f"{table.file} line {table.line}"


def _warnings(rule: ReadyRule) -> Iterator[str]:
    """Yield the warnings of decisions without placeholders, and of guessable ones, each once."""
    warnings: dict[str, None] = {}
    for answer in rule.answers.values():
        fixed = answer.fixed.warnings if answer.fixed is not None else ()
        text = "is a hash without a secret, which a caller can calculate: write hash_secret_file"
        guessable = (f"{name} {text}" for name in answer.guessable)
        warnings |= dict.fromkeys((*fixed, *answer.doubts, *guessable))
    for warning in (*pitfalls(rule.condition), *warnings):
        yield f"rule {rule}: {warning}"


def _before_wildcards(pattern: Path) -> Path:
    """Return the file, or the folder in which a file must appear for a pattern to match."""
    above = (*reversed(pattern.parents), pattern)
    return next((folder.parent for folder in above if has_magic(folder.name)), pattern)
