"""Plugin class of ``directory``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

from typing_extensions import override

from pexpolicy import (
    Alias,
    ConfigWarning,
    DataUnavailableError,
    Directory,
    DirectoryEntry,
    DirectoryInformationRequest,
    Key,
    Plugin,
    Problem,
    SettingsError,
)
from pexpolicy.models.alias import why_never_called
from pexpolicy.rows import RowSnapshot, listed_rows, read_rows, report_left_out
from pexpolicy.text import did_you_mean
from pexpolicy_directory.index import MAX, Entry, SearchIndex, Settings


class PhoneBook(Plugin[Settings]):
    """Answers the search of a registered app with the entries that its user may see."""

    def __init__(self, settings: Settings) -> None:
        """Read the entries; raise ``SettingsError`` with all that is wrong with them."""
        self._ignore_local = settings.ignore_local
        self._limit = settings.limit
        self._members = _members(settings.groups)
        problems: list[Problem] = []
        entries = list(listed_rows("entries", settings.entries, settings.csv, Entry, problems))
        problems += _wrong_entries(entries, settings.groups)
        self._own = [entry for _, entry in entries]
        self._group_names = settings.groups.keys()
        self._snapshot: RowSnapshot[SearchIndex] | None = None
        try:
            self._snapshot = settings.snapshot(self._convert, "entries", [["alias"], ["name"]])
        except SettingsError as error:
            problems += error.problems
        if problems:
            raise SettingsError(problems=problems)
        self._warnings = list(_never_called(entries, settings.groups))
        self._index = SearchIndex(self._own)

    def _convert(self, rows: list[dict[str, Any]]) -> SearchIndex:
        """Return the index of all entries; rows with an error are left out and logged.

        Raises ``ValueError`` if no row is right.
        """
        problems: list[str] = []
        entries: list[Entry] = []
        for number, entry in read_rows(map(_fields, rows), Entry, problems):
            wrong = next(_wrong_entries([((f"row {number}",), entry)], self._group_names), None)
            if wrong is None:
                entries.append(entry)
            else:
                problems.append(str(wrong))
        report_left_out("entries", problems, is_empty=not entries)
        return SearchIndex([*self._own, *entries])

    @override
    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Fetch the entries of the source, and keep them up to date."""
        return self._snapshot or nullcontext()

    @override
    async def directory_information(self, request: DirectoryInformationRequest) -> Directory | None:
        """Return the entries that match; abstain where there are none."""
        limit = self._limit if request.limit is None else request.limit
        groups = self._groups_of(request.registration_alias)
        index = self._index
        if self._snapshot is not None:
            index = self._snapshot.value
            request.annotate(source_age=round(self._snapshot.age, 1))
        found = index.find(request.q or "", max(limit, 0), groups)
        if not found and not self._ignore_local:
            return None
        entries = [
            DirectoryEntry(alias=entry.alias, description=entry.name, username=entry.username)
            for entry in found
        ]
        if self._ignore_local:
            return Directory(entries=entries, ignore_local=True)
        return Directory(entries=entries)

    def _groups_of(self, alias: Alias) -> frozenset[str]:
        named = self._members.get(alias, frozenset())
        domain = self._members.get(f"@{alias.host}", frozenset()) if alias.host else frozenset()
        return named | domain

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of an empty phone book, and of aliases that no call has."""
        yield from self._warnings
        if not len(self._index) and self._snapshot is None:
            yield ConfigWarning((), "has no entry: it never answers")

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of entries."""
        index = self._index
        if self._snapshot is not None:
            with suppress(DataUnavailableError):
                index = self._snapshot.value
        return {"entries": len(index)}


def _members(groups: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    """Return the groups of each alias and domain."""
    members: dict[str, frozenset[str]] = {}
    for group, listed in groups.items():
        for text in listed:
            member = text.lower() if text.startswith("@") else str(Alias(text))
            members[member] = members.get(member, frozenset()) | {group}
    return members


def _never_called(
    entries: Iterable[tuple[Key, Entry]], groups: Mapping[str, list[str]]
) -> Iterator[ConfigWarning]:
    written = [((*key, "alias"), entry.alias) for key, entry in entries]
    written += [(("groups", group), text) for group, listed in groups.items() for text in listed]
    for key, text in written:
        domain = key[0] == "groups" and text.startswith("@")
        if why := why_never_called(Alias(f"x{text}" if domain else text)):
            yield ConfigWarning(key, f"{text!r} {why}, so no entry has this alias")


def _wrong_entries(
    entries: Iterable[tuple[Key, Entry]], groups: Collection[str]
) -> Iterator[Problem]:
    for key, entry in entries:
        if not Alias(entry.alias).user:
            yield Problem((*key, "alias"), 'is not an alias; write one such as "anna@example.com"')
        for group in entry.groups:
            if group not in groups:
                guess = did_you_mean(group, groups) or "; list its members in groups"
                yield Problem((*key, "groups"), f"there is no group {group!r}{guess}")


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return the first of several aliases and names; the other names are keywords."""
    several = {name: value for name, value in row.items() if isinstance(value, list)}
    words = [*several.get("name", [])[1:], *several.get("keywords", [row.get("keywords")])]
    return {
        **row,
        **{name: next(iter(several[name]), None) for name in several if name != "groups"},
        # Someone with more of them is found by the first ones, not left out.
        "keywords": " ".join(str(word) for word in words if word)[:MAX],
    }
