"""Builder of rules from settings and files that reports all problems at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any

from pexpolicy import ConfigWarning, Key, Problem, read_secret
from pexpolicy.config.csv_tables import TableError
from pexpolicy.config.problems import dotted_key
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.toml_tables import Table, read_tables
from pexpolicy.files import track_file
from pexpolicy.matching import compile_when, group_names, pitfalls
from pexpolicy_rules.decisions import Answer, AnswerError
from pexpolicy_rules.parser import as_written, literal_placeholders, parse, possible_groups
from pexpolicy_rules.rule_set import ReadyRule
from pexpolicy_rules.settings import Rule, Settings
from pexpolicy_rules.source_lists import SourceLists


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
        self._secret = self._read_secret(settings.hash_secret_file)
        self._places: dict[str, str] = {}
        for number, table in enumerate(settings.rules):
            self._add(table, ("rules", number), None, settings.root)
        for pattern in settings.files:
            self._add_files(pattern, settings.root)
        for name in sorted(self.lists.unused()):
            self.warnings.append(ConfigWarning(("sources", name), "no rule uses this list"))

    def _read_secret(self, path: Path | None) -> str:
        if path is None:
            return ""
        try:
            return read_secret("hash_secret", None, str(path), Path()) or ""
        except SecretError as error:
            self.problems.append(Problem(("hash_secret_file",), str(error)))
            return "?"

    def _add_files(self, relative: str, root: Path) -> None:
        pattern = str(Path(escape(str(root)), relative))
        paths = sorted(glob(pattern))  # noqa: PTH207 - the pattern may be absolute
        if not paths:
            track_file(_before_wildcards(root / relative))
            self.problems.append(Problem(("files",), f"there is no file {relative}"))
        for path in map(Path, paths):
            self.files.append(path)
            try:
                tables, issues = read_tables(path, "rules")
            except TableError as error:
                self.problems += error.under(("files",))
                continue
            self.problems += TableError(issues).under(("files",))
            for table in tables:
                self._add(table.values, ("files",), table, root)

    def _add(self, written: dict[str, Any], key: Key, table: Table | None, root: Path) -> None:
        rule, issues = parse(written, root, self._list_names)
        if (duplicate := self._register_name(written.get("name"), table)) is not None:
            issues.append((("name",), duplicate))
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
                self.problems.append(Problem(key, str(table.fault(place, text))))
            else:
                self.problems.append(Problem((*key, *place), f"{text}{_rule_suffix(written)}"))

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

    def _register_name(self, name: object, table: Table | None) -> str | None:
        """Store the place of a name; return the problem if an earlier rule has it."""
        if not isinstance(name, str) or not name:
            return None
        if (earlier := self._places.get(name)) is not None:
            return f"there is a rule called {name!r} already{earlier}; choose another name"
        self._places[name] = f" in {_place(table)}" if table is not None else ""
        return None

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
        for endpoint in rule.endpoint:
            try:
                answers[endpoint] = Answer(
                    endpoint, rule.then, _reason(rule), groups, self._extras, self._secret
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
    if image is not None and image.is_file():
        digest.update(image.read_bytes())
    return digest.hexdigest()


def _place(table: Table) -> str:
    return f"{table.file} line {table.line}"


def _rule_suffix(written: Mapping[str, Any]) -> str:
    """Return the name of a rule, as its number in the key is not enough."""
    name = written.get("name")
    return f" (rule {name!r})" if isinstance(name, str) and name else ""


def _reason(rule: Rule) -> str:
    """Return the reason for the audit log and Pexip's support log."""
    suffix = f": {rule.then.reason}" if rule.then.reason is not None else ""
    return f"rule {rule.name}{suffix}"


def _warnings(rule: ReadyRule) -> Iterator[str]:
    """Yield the warnings of decisions without placeholders, and of guessable ones, each once."""
    warnings = {
        warning: None
        for answer in rule.answers.values()
        if answer.fixed is not None
        for warning in answer.fixed.warnings
    }
    for answer in rule.answers.values():
        warnings |= dict.fromkeys(answer.doubts)
        for name in answer.guessable:
            warnings[
                f"{name} is a hash without a secret, which a caller can calculate: write "
                "hash_secret_file"
            ] = None
    for warning in (*pitfalls(rule.condition), *warnings):
        yield f"rule {rule}: {warning}"


def _before_wildcards(pattern: Path) -> Path:
    """Return the file, or the folder in which a file must appear for a pattern to match."""
    for folder in (*reversed(pattern.parents), pattern):
        if has_magic(folder.name):
            return folder.parent
    return pattern
