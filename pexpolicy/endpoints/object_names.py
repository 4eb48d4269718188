"""Names of objects in Infinity: an unknown one invalidates the answer, or is a warning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from pexpolicy.models.contract import contract_of, objects_in
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Confidence
from pexpolicy.models.validation import refusal
from pexpolicy.text import brief, did_you_mean, suggest

D = TypeVar("D", bound=Decision)

NAMED_OBJECTS: dict[str, str] = {
    "ivr_theme_name": "themes",
    "host_identity_provider_group": "identity_provider_groups",
    "guest_identity_provider_group": "identity_provider_groups",
    "h323_gatekeeper_name": "h323_gatekeepers",
    "sip_proxy_name": "sip_proxies",
    "stun_server_name": "stun_servers",
    "turn_server_name": "turn_servers",
    "outgoing_location_name": "locations",
    "system_location_name": "locations",
    "gms_access_token_name": "gms_access_tokens",
    "mssip_proxy_name": "mssip_proxies",
    "teams_proxy_name": "teams_proxies",
    "media_playlist_name": "media_playlists",
    "location": "locations",
    "overflow_locations": "locations",
    "primary_overflow_location": "locations",
    "secondary_overflow_location": "locations",
}
"""Fields that name an object of Infinity, and the key of ``[infinity]`` that lists the names."""
MAX_COMPARED = 300
"""Names that an unknown one is compared with, as a call waits meanwhile: 10 ms."""
MAX_SHOWN = 5
"""Places of a name in the log."""
MAX_SUGGESTED = 20
"""Unknown names of one look for which the nearest one is looked for, which takes 10 ms each."""
NOT_LISTED = " is not one of the {} of Infinity"
Place = tuple[str | int, ...]


class NameList(NamedTuple):
    """The names of one kind as a source has last seen them."""

    names: frozenset[str]
    fetched_at: float
    """Seconds since 1970."""
    problem: str = ""
    """Why a newer list is not used."""


@runtime_checkable
class NameSource(Protocol):
    """A source that lists the names of Infinity."""

    on_names: list[Callable[[], None]]
    """Called after each fetch, in a thread."""

    def listed_names(self) -> Mapping[str, NameList]:
        """Return the lists by kind, without I/O; none of a kind that was never seen."""
        ...

    async def refresh_names(self) -> None:
        """Fetch the lists now; raise what that raises."""


class NameProblem(NamedTuple):
    """A name in static decisions that Infinity does not have, or names that are not read."""

    kind: str
    name: str
    """Empty for names that are not read."""
    text: str
    """What is wrong, for the first ones with the likely name."""
    places: list[Place]

    @property
    def shown(self) -> list[str]:
        """The places that a log line has."""
        return [".".join(map(str, place)) for place in self.places[:MAX_SHOWN]]


class ObjectNames:
    """The names of Infinity by kind: those in the configuration, and those of a source.

    A name that the configuration does not list is an error, and one that only the source does not
    list a warning: its lists may be old or cut.
    """

    def __init__(
        self,
        declared: Mapping[str, frozenset[str]],
        source: NameSource | None = None,
        table: tuple[str, ...] = ("infinity",),
    ) -> None:
        self.table = table
        """The key of the table with the names."""
        self.declared = declared
        self.source = source
        self._listed = dict[str, NameList] if source is None else source.listed_names
        self._uses: dict[tuple[str, str, tuple[ObjectNames, ...]], list[Place]] = defaultdict(list)
        self._warned: set[tuple[str, str]] = set()

    @property
    def listed(self) -> Mapping[str, NameList]:
        """The lists of the source, without the kinds that the configuration lists."""
        return {kind: one for kind, one in self._listed().items() if kind not in self.declared}

    def check(self, decision: D) -> D:
        """Return the decision, with a warning for each name that the source does not list.

        Raise ``DecisionError`` for a name of a declared kind that is not listed.
        """
        warnings = []
        for field, value in _named(decision):
            if not self.lacks(kind := NAMED_OBJECTS[field], value):
                continue
            if (known := self.declared.get(kind)) is not None:
                text = f"{brief(value)} is not listed under [{'.'.join(self.table)}] {kind}"
                text += suggest(value, sorted(known)) if len(known) <= MAX_COMPARED else ""
                contract = contract_of(type(decision))
                raise DecisionError(refusal(contract, field, value, text, Confidence.TRANSCRIBED))
            # The nearest one is not looked for, as a call waits and may come often.
            warnings.append(f"{field}: {brief(value)}{NOT_LISTED.format(kind)}")
        return decision.with_warnings(*warnings) if warnings else decision

    def record(
        self, place: Place, decision: Decision, others: tuple[ObjectNames, ...] = ()
    ) -> None:
        """Remember where a static decision uses names; those of ``others`` are right, too."""
        for field, value in _named(decision):
            self._uses[NAMED_OBJECTS[field], value, others].append((*place, field))

    def lacks(self, kind: str, name: str) -> bool:
        """Return whether the names of a kind are known, and this one is not among them."""
        listed = self._listed()
        known = self.declared.get(kind, listed[kind].names if kind in listed else None)
        return known is not None and name not in known

    def problems(self) -> Iterator[NameProblem]:
        """Yield what is wrong with the names of the source: not read, kept, or unknown to it."""
        place = (*self.table, "source")
        if self.source is not None and not self._listed():
            text = "its names are not known yet: check --open asks for them"
            yield NameProblem("", "", text, [place])
        for kind, known in self.listed.items():
            if known.problem:
                at = datetime.fromtimestamp(known.fetched_at, UTC)
                text = f"names of {at:%Y-%m-%d %H:%M} UTC are kept, as {known.problem}"
                yield NameProblem(kind, "", text, [place])
        yield from self.unknown()

    def unknown(self) -> list[NameProblem]:
        """Return the names in static decisions that the source does not list now."""
        listed, found = self.listed, list[NameProblem]()
        for (kind, name, others), places in self._uses.items():
            if kind in listed and all(one.lacks(kind, name) for one in (self, *others)):
                near = _nearest(name, listed[kind].names) if len(found) < MAX_SUGGESTED else ""
                text = f"{brief(name)}{NOT_LISTED.format(kind)}{near}"
                found.append(NameProblem(kind, name, text, [*dict.fromkeys(places)]))
        return found

    def warn_of_new(self, warn: Callable[..., object]) -> None:
        """Warn of each name that the source does not list, and that was not warned of already."""
        unknown = {one[:2]: one for one in self.unknown()}
        for one in (unknown[key] for key in unknown.keys() - self._warned):
            uses = len(one.places)
            warn("a name is unknown to Infinity", problem=one.text, uses=uses, at=one.shown)
        self._warned = {*unknown}


# Kept, as each look for the nearest name takes 10 ms, and status and log ask again and again.
@lru_cache(maxsize=1000)
def _nearest(name: str, known: frozenset[str]) -> str:
    return did_you_mean(name, sorted(known)) if len(known) <= MAX_COMPARED else ""


def _named(decision: Decision) -> Iterator[tuple[str, str]]:
    """Yield the names in a decision, each with its field; skip unknown fields."""
    for _, contract, fields in objects_in(contract_of(type(decision)), decision.set_fields()):
        for field in fields.keys() & NAMED_OBJECTS.keys() & contract.names:
            value = fields[field]
            for name in value if isinstance(value, list) else (value,):
                if name and isinstance(name, str):
                    yield field, name
