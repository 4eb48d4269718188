"""The table of subnets: which entry a call meets, and the decision that was rendered for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pexpolicy import MediaLocation, MediaLocationRequest
from pexpolicy.subnets import Subnets
from pexpolicy_locations.settings import Entry, Source


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry as it is asked: for which calls it is, and what it answers.

    ``decisions`` holds one for each source of addresses; they differ in their reasons only.
    """

    protocols: frozenset[str]
    node_locations: frozenset[str]
    decisions: tuple[MediaLocation, ...]

    @property
    def plain(self) -> bool:
        """True for an entry that is for all calls."""
        return not self.protocols and not self.node_locations

    @property
    def rank(self) -> tuple[bool, bool]:
        """Sorts the choices of one subnet: a narrower one is asked first."""
        return not self.node_locations, not self.protocols

    def meets(self, request: MediaLocationRequest) -> bool:
        """True for a call that the entry is for."""
        return (not self.protocols or request.protocol in self.protocols) and (
            not self.node_locations or request.location in self.node_locations
        )

    def rivals(self, other: Choice) -> bool:
        """True where both are as narrow and a call may meet both: which decides is anybody's guess.

        Both are entries of the same subnet.
        """
        return self.rank == other.rank and all(
            not mine or mine & theirs
            for mine, theirs in (
                (self.protocols, other.protocols),
                (self.node_locations, other.node_locations),
            )
        )


class LocationTable:
    """Finds the decision for a call. Each subnet holds the choices that its addresses may meet."""

    def __init__(self, sources: Sequence[Source], subnets: Subnets[list[Choice]]) -> None:
        """Complete the subnets, which hold their own choices, with those of the subnets around."""
        self._subnets = subnets
        self._looks = tuple(enumerate(_READERS[source] for source in sources))
        for match in subnets:
            match.value.sort(key=lambda choice: choice.rank)
        # A subnet comes before those in it, so what is taken over is complete.
        for overlap in subnets.overlaps():
            own = overlap.inner.value
            if not own[-1].plain:
                own += overlap.outer.value

    def __len__(self) -> int:
        return len(self._subnets)

    def find(self, request: MediaLocationRequest) -> MediaLocation | None:
        """The decision of the longest prefix with an entry for this call, or ``None``."""
        for number, addresses in self._looks:
            for address in addresses(request):
                found = self._subnets.find(address)
                for choice in found.value if found is not None else ():
                    if choice.meets(request):
                        return choice.decisions[number]
        return None


_READERS: Mapping[Source, Callable[[MediaLocationRequest], Iterable[str | None]]] = {
    "remote_address": lambda request: (request.remote_address,),
    "ms_subnet": lambda request: request.ms_subnet,
    "proxy_node_address": lambda request: (request.proxy_node_address,),
}


def reasons(entry: Entry, subnet: str, sources: Iterable[Source]) -> list[str]:
    """Why an entry decides, for each source of addresses: the prefix, and for which calls."""
    narrowed = "".join(
        (
            f", for {' and '.join(sorted(entry.protocols))}" if entry.protocols else "",
            f", at {' and '.join(sorted(entry.node_locations))}" if entry.node_locations else "",
        )
    )
    return [f"{source} is in {subnet}{narrowed}" for source in sources]
