"""Rooms and rules of a policy, as the console lists them, and where they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from pexpolicy import Alias, Decision, Key
from pexpolicy.audit.redaction import REMOVED, Redaction, redaction_of
from pexpolicy.cli.for_console import Places, Policy
from pexpolicy.config.problems import dotted_key
from pexpolicy.models.outcome import Outcome

HIDDEN = "hidden from viewers, as it may name people"
_LINE = re.compile(r"\S.* line \d+")


class Listing:
    """The rooms and rules of one policy, which keeps its static decisions.

    A plugin that decides by rules has ``rule_summaries``, and one that leads aliases to services
    ``room_entries``, such as ``rules`` and ``rooms``. ``content`` is the text of the configuration
    file.
    """

    def __init__(self, policy: Policy, content: str) -> None:
        self._policy = policy
        self._places = Places(content)
        self._hiding = redaction_of(policy.settings)
        self._keys: dict[int, tuple[str, Key]] | None = None

    def place_of(self, outcome: Outcome) -> str:
        """Return where a decision is written, such as ``rooms.csv line 3``; empty if unknown."""
        reason = outcome.decision.reason
        for plugin, summary in self._summaries():
            start = f"rule {summary.name}: "
            if plugin == outcome.decided_by and f"{reason}: ".startswith(start):
                return self._place(plugin, summary.key)
        return self._place_of_decision(outcome.decision)

    def _place_of_decision(self, decision: Decision) -> str:
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

    def rooms(
        self,
        text: str = "",
        skip: int = 0,
        limit: int = 100,
        *,
        hides_personal: bool = False,
        called: Sequence[str] | None = None,
        uncalled: bool = False,
    ) -> dict[str, Any]:
        """Return the rooms that match, in the order in which they are written, and their number.

        ``text`` is part of an alias or a name. ``hides_personal`` applies ``[privacy]`` to aliases
        and fields; ``text`` is then a name or a whole alias. Of ``called`` names the rooms are
        returned in that order, or all others if they are to be ``uncalled``.
        """
        text = text.strip().lower()
        redaction = self._hiding if hides_personal else Redaction()
        known = [
            (plugin.name, entry)
            for plugin in self._policy.plugins
            for entry in getattr(plugin.instance, "room_entries", tuple)()
        ]
        whole, normal = redaction.personal is not None, str(Alias(text))
        found = [one for one in known if not text or _matches(one[1], text, normal, whole=whole)]
        if called is not None:
            places = {name: place for place, name in enumerate(called)}
            found = [one for one in found if (_name_of(one[1]) in places) != uncalled]
            if not uncalled:
                found.sort(key=lambda one: places[_name_of(one[1])])
        shown = [self._room(*one, redaction) for one in islice(found, skip, skip + limit)]
        return {"rooms": shown, "total": len(known), "matching": len(found)}

    def _room(self, plugin: str, entry: Any, redaction: Redaction) -> dict[str, Any]:
        masked = redaction.masked(entry.service)
        facts = dict(entry.service.set_fields() if masked is None else masked[0])
        alias, place = entry.alias, self._place_of_decision(entry.service)
        if redaction.personal is not None:
            alias = redaction.personal(alias) or REMOVED
            # The key of a room is its alias.
            place = HIDDEN if place.startswith("plugins.") else place
        return {
            "plugin": plugin,
            "alias": alias,
            "name": str(facts.pop("name", "")),
            "service_type": str(facts.pop("service_type", "conference")),
            "place": place,
            "valid": entry.valid,
            "fields": facts,
        }

    def rules(self, *, hides_personal: bool) -> list[dict[str, Any]]:
        """Return all rules, each with its findings: the warnings about it."""
        warnings: dict[Key, list[str]] = {}
        for warning in self._policy.warnings:
            warnings.setdefault(warning.key, []).append(warning.text)
        hides = hides_personal and self._hiding.personal is not None
        listed = []
        for number, (plugin, summary) in enumerate(self._summaries(), 1):
            place = self._place(plugin, summary.key)
            below = summary.key[:-1] if place == summary.key[-1] else summary.key
            texts = warnings.get(("plugins", plugin, "settings", *below), [])
            listed.append(
                {
                    "plugin": plugin,
                    "number": number,
                    "name": summary.name,
                    "endpoints": summary.endpoints,
                    "condition": HIDDEN if hides else summary.condition,
                    "actions": [*dict.fromkeys(summary.actions)],
                    "place": place,
                    # Rules of one file have one key.
                    "findings": [t for t in texts if repr(summary.name) in t and not hides],
                }
            )
        return listed

    def _summaries(self) -> Iterator[tuple[str, Any]]:
        for plugin in self._policy.plugins:
            for summary in getattr(plugin.instance, "rule_summaries", tuple)():
                yield plugin.name, summary

    def _place(self, plugin: str, key: Key) -> str:
        """Return file and line of a key of a plugin's settings, or the dotted key.

        Plugins end the key of what is written in a file of their own with file and line.
        """
        for part in reversed(key):
            if isinstance(part, str) and _LINE.fullmatch(part):
                return part
        whole: Key = ("plugins", plugin, "settings", *key)
        line = self._places.line_of(whole)
        return f"{self._policy.settings.path.name} line {line}" if line else dotted_key(whole)


def _name_of(entry: Any) -> str:
    return str(entry.service.set_fields().get("name", ""))


def _matches(entry: Any, text: str, normal: str, *, whole: bool) -> bool:
    """Return whether a room has a text in its name or alias. Parts of hidden aliases must not be
    found by trying, so ``whole`` ones are compared.
    """
    return text in _name_of(entry).lower() or (
        normal == entry.alias if whole else normal in entry.alias
    )
