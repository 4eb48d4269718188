"""The parser of location tables, with all problems at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from pexpolicy import (
    ConfigWarning,
    DecisionError,
    Key,
    MediaLocation,
    Problem,
)
from pexpolicy.subnets import SubnetError, Subnets, read_subnet
from pexpolicy_locations.settings import Entry
from pexpolicy_locations.table import Choice, Choices

MAX_NAMED = 20
"""Overlaps that are named one by one; of a larger table, the rest is counted."""


class Draft:
    """A table that is being written: entries come in; problems, subnets and advice come out."""

    def __init__(self, overflow: Mapping[str, Sequence[str]]) -> None:
        self._overflow = overflow
        self._choices: dict[IPv4Network | IPv6Network, Choices] = {}
        self._keys: dict[str, Key] = {}
        self._rendered: dict[tuple[str, tuple[str, ...]], tuple[Key, MediaLocation]] = {}
        self._shared: dict[Choices, Choices] = {}
        self.problems: list[Problem] = []

    def add(self, key: Key, entry: Entry) -> None:
        """One entry, and where it stands."""
        decision = self.rendered(key, entry.location, entry.overflow_locations)
        if decision is None:
            return
        try:
            network = read_subnet(entry.subnet)
        except SubnetError as error:
            self.problems.append(Problem((*key, "subnet"), str(error)))
            return
        choice = Choice(entry.protocols, entry.node_locations, decision)
        before = self._choices.get(network, ())
        if any(choice.rivals(other) for other in before):
            text = f"{network} is there already, for the same calls"
            self.problems.append(Problem((*key, "subnet"), text))
            return
        choices = tuple(sorted((*before, choice), key=lambda known: known.rank))
        self._choices[network] = self._shared.setdefault(choices, choices)
        self._keys.setdefault(str(network), key)

    def rendered(
        self, key: Key, location: str, overflow: Sequence[str] | None = None
    ) -> MediaLocation | None:
        """The decision for a location, rendered once; ``None`` where it is refused."""
        then = tuple(self._overflow.get(location, ()) if overflow is None else overflow)
        if (known := self._rendered.get((location, then))) is not None:
            return known[1]
        fields: dict[str, Any] = {"overflow_locations": list(then)} if then else {}
        try:
            decision = MediaLocation(location=location, **fields)
        except DecisionError as error:
            self.problems.append(Problem((*key, error.refusal.field), error.refusal.rule))
            return None
        self._rendered[location, then] = (key, decision)
        return decision

    def prepared(self) -> list[tuple[Key, MediaLocation]]:
        """Each decision once, with the place where it is written first."""
        return list(self._rendered.values())

    def subnets(self) -> Subnets[Choices]:
        """The subnets, each with its choices."""
        subnets: Subnets[Choices] = Subnets()
        for network, choices in self._choices.items():
            subnets.add(network, choices)
        return subnets

    def advice(self, subnets: Subnets[Choices]) -> list[ConfigWarning]:
        """What one should know of the entries though they are valid."""
        overlaps = list(self._overlaps(subnets))
        more = len(overlaps) - MAX_NAMED
        rest = (
            [ConfigWarning(("subnets",), f"{more} further subnets lie in others")]
            if more > 0
            else []
        )
        return [*overlaps[:MAX_NAMED], *rest, *self._odd_overflow()]

    def _overlaps(self, subnets: Subnets[Choices]) -> Iterator[ConfigWarning]:
        """Subnets in others. One in a subnet of all addresses is in its place there."""
        for overlap in subnets.overlaps():
            inner, outer = overlap.inner, overlap.outer
            if outer.subnet.endswith("/0"):
                continue
            same = inner.value == outer.value
            then = "leads to the same: it is needless" if same else "the longer prefix decides"
            text = f"{inner.subnet} lies in {outer.subnet}; {then}"
            yield ConfigWarning((*self._keys[inner.subnet], "subnet"), text)

    def _odd_overflow(self) -> Iterable[ConfigWarning]:
        used = {location for location, _ in self._rendered}
        for location, then in self._overflow.items():
            key = ("overflow", location)
            if location not in used:
                yield ConfigWarning(
                    key, "no subnet leads to this location, and it is not the default"
                )
            if location in then:
                yield ConfigWarning(key, "a location that is full is no overflow of its own")
