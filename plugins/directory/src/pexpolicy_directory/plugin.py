"""Plugin class of ``directory``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from typing_extensions import override

from pexpolicy import (
    Alias,
    ConfigWarning,
    Directory,
    DirectoryEntry,
    DirectoryInformationRequest,
    Key,
    Plugin,
    Problem,
    SettingsError,
    did_you_mean,
)
from pexpolicy.config.csv_tables import TableError, read_table
from pexpolicy_directory.index import SearchIndex
from pexpolicy_directory.settings import Entry, Settings


class PhoneBook(Plugin[Settings]):
    """Answers the search of a registered app with the entries that its user may see."""

    def __init__(self, settings: Settings) -> None:
        """Read the entries; raise ``SettingsError`` with all that is wrong with them."""
        self._ignore_local = settings.ignore_local
        self._limit = settings.limit
        self._files = [] if settings.csv is None else [settings.csv]
        self._members = _members(settings.groups)
        problems: list[Problem] = []
        entries = list(_entries(settings, problems))
        problems += _unknown_groups(entries, settings.groups)
        if problems:
            raise SettingsError(problems=problems)
        self._index = SearchIndex(entry for _, entry in entries)

    @override
    async def directory_information(self, request: DirectoryInformationRequest) -> Directory | None:
        """Return the entries that match; abstain where there are none."""
        limit = self._limit if request.limit is None else request.limit
        groups = self._groups_of(request.registration_alias)
        found = self._index.find(request.q or "", max(limit, 0), groups)
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
        """Warn of an empty phone book."""
        if not len(self._index):
            yield ConfigWarning((), "has no entry: it never answers")

    @override
    def tracked_files(self) -> Iterable[Path]:
        """Return the CSV file."""
        return self._files

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of entries."""
        return {"entries": len(self._index)}


def _members(groups: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    """Return the groups of each alias and domain."""
    members: dict[str, frozenset[str]] = {}
    for group, listed in groups.items():
        for text in listed:
            member = text.lower() if text.startswith("@") else str(Alias(text))
            members[member] = members.get(member, frozenset()) | {group}
    return members


def _entries(settings: Settings, problems: list[Problem]) -> Iterable[tuple[Key, Entry]]:
    """Yield the entries of the configuration, then those of the file, each with its key."""
    for number, entry in enumerate(settings.entries):
        yield ("entries", number), entry
    if settings.csv is not None:
        try:
            rows = read_table(settings.csv, Entry)
        except TableError as error:
            problems += error.under(("csv",))
            return
        for row in rows:
            yield ("csv", f"{row.file} line {row.line}"), row.values


def _unknown_groups(
    entries: Iterable[tuple[Key, Entry]], groups: Mapping[str, list[str]]
) -> Iterable[Problem]:
    for key, entry in entries:
        if not Alias(entry.alias).user:
            text = 'is not an alias; write one such as "anna@example.com"'
            yield Problem((*key, "alias"), text)
        for group in entry.groups:
            if group not in groups:
                guess = did_you_mean(group, groups) or "; list its members in groups"
                yield Problem((*key, "groups"), f"there is no group {group!r}{guess}")
