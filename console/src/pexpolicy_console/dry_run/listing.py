"""Rooms and rules of a policy, as the console lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from pexpolicy import Alias, Decision, Key, Service
from pexpolicy.audit.redaction import REMOVED, Redaction, redaction_of
from pexpolicy.policy import Policy
from pexpolicy_console.dry_run.messages import ListRooms, Room, Rooms, Rule, Rules
from pexpolicy_console.dry_run.places import place_of

HIDDEN = "hidden from viewers, as it may name people"


class _RuleSummary(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def endpoints(self) -> tuple[str, ...]: ...
    @property
    def condition(self) -> str: ...
    @property
    def actions(self) -> tuple[str, ...]: ...
    @property
    def key(self) -> Key: ...


class _RoomEntry(Protocol):
    @property
    def alias(self) -> str: ...
    @property
    def service(self) -> Service: ...
    @property
    def valid(self) -> str: ...


@runtime_checkable
class HasRules(Protocol):
    """A plugin that decides by rules, such as ``rules``."""

    def rule_summaries(self) -> Sequence[_RuleSummary]:
        """Return the rules in their order, in words."""


@runtime_checkable
class HasRooms(Protocol):
    """A plugin that leads aliases to services, such as ``rooms``."""

    def room_entries(self) -> Iterable[_RoomEntry]:
        """Yield each alias that leads to a room."""


class Listing:
    """The rooms and rules of one policy, which keeps its static decisions.

    ``content`` is the text of its configuration file.
    """

    def __init__(self, policy: Policy, content: str) -> None:
        self._policy = policy
        self._content = content
        self._hiding = redaction_of(policy.settings)
        self._keys: dict[int, tuple[str, Key]] | None = None

    def place_of_decision(self, decision: Decision) -> str:
        """Return where a decision is written; empty if it was made for the call."""
        if self._keys is None:
            # The same decision may have several keys, of which the first counts.
            self._keys = {
                id(known): (plugin, key)
                for plugin, decisions in self._policy.static_decisions.items()
                for key, known in reversed(decisions)
            }
        found = self._keys.get(id(decision))
        return "" if found is None else self._place(*found)

    def place_of_rule(self, plugin: str, reason: str | None) -> str:
        """Return where a rule is written, from the reason of its decision; empty if unknown."""
        for owner, summary in self._summaries():
            start = f"rule {summary.name}"
            if owner == plugin and reason is not None and f"{reason}: ".startswith(f"{start}: "):
                return self._place(plugin, summary.key)
        return ""

    def rooms(self, wanted: ListRooms) -> Rooms:
        """Return the rooms that match, in the order in which they are written."""
        text = wanted.text.strip().lower()
        normal = str(Alias(text))
        redaction = self._hiding if wanted.hides_personal else Redaction()
        total = matching = 0
        shown: list[Room] = []
        for plugin in self._policy.plugins:
            if not isinstance(plugin.instance, HasRooms):
                continue
            for entry in plugin.instance.room_entries():
                total += 1
                if text and not _matches(entry, text, normal, whole=redaction.personal is not None):
                    continue
                matching += 1
                if wanted.skip < matching <= wanted.skip + wanted.limit:
                    shown.append(self._room(plugin.name, entry, redaction))
        return Rooms(shown, total, matching)

    def _room(self, plugin: str, entry: _RoomEntry, redaction: Redaction) -> Room:
        facts = fields_of(entry.service, redaction)
        alias, place = entry.alias, self.place_of_decision(entry.service)
        if redaction.personal is not None:
            alias = redaction.personal(alias) or REMOVED
            # The key of a room is its alias.
            place = HIDDEN if place.startswith("plugins.") else place
        return Room(
            plugin,
            alias,
            str(facts.pop("name", "")),
            str(facts.pop("service_type", "conference")),
            place,
            entry.valid,
            facts,
        )

    def rules(self, *, hides_personal: bool) -> Rules:
        """Return all rules, each with the warnings about it."""
        warnings: dict[Key, list[str]] = {}
        for warning in self._policy.warnings:
            warnings.setdefault(warning.key, []).append(warning.text)
        hides = hides_personal and self._hiding.personal is not None
        listed: list[Rule] = []
        for number, (plugin, summary) in enumerate(self._summaries(), 1):
            place = self._place(plugin, summary.key)
            below = summary.key[:-1] if place == summary.key[-1] else summary.key
            texts = warnings.get(("plugins", plugin, "settings", *below), [])
            listed.append(
                Rule(
                    plugin,
                    number,
                    summary.name,
                    [*summary.endpoints],
                    HIDDEN if hides else summary.condition,
                    [*dict.fromkeys(summary.actions)],
                    place,
                    # Rules of one file have one key.
                    [t for t in texts if repr(summary.name) in t and not hides],
                )
            )
        return Rules(listed)

    def _summaries(self) -> Iterator[tuple[str, _RuleSummary]]:
        for plugin in self._policy.plugins:
            if isinstance(plugin.instance, HasRules):
                for summary in plugin.instance.rule_summaries():
                    yield plugin.name, summary

    def _place(self, plugin: str, key: Key) -> str:
        return place_of(self._policy.settings.path, self._content, plugin, key)


def _matches(entry: _RoomEntry, text: str, normal: str, *, whole: bool) -> bool:
    """Return whether a room has a text in its name or alias. Parts of hidden aliases must not be
    found by trying, so ``whole`` ones are compared.
    """
    name = str(entry.service.set_fields().get("name", "")).lower()
    return text in name or (normal == entry.alias if whole else normal in entry.alias)


def fields_of(decision: Decision, redaction: Redaction) -> dict[str, Any]:
    """Return the fields of a service that were set, without secrets."""
    masked = redaction.masked_fields("service_configuration", decision)
    return dict(decision.set_fields() if masked is None else masked)
