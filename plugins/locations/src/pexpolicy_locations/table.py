"""Location table: look-up of the rendered decision for a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pexpolicy import MediaLocation, MediaLocationRequest
from pexpolicy.matching import ValueOf, compile_value_of
from pexpolicy.subnets import Match, Subnets
from pexpolicy_locations.settings import AddressName


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision and the calls that it is for; subnets share equal choices."""

    protocols: frozenset[str]
    node_locations: frozenset[str]
    decision: MediaLocation
    description: str = ""
    suffix: str = field(init=False, repr=False)
    """The end of a reason: the description, and the calls that it is for."""

    def __post_init__(self) -> None:
        protocols, nodes = sorted(self.protocols), sorted(self.node_locations)
        text = f" ({self.description})" if self.description else ""
        text += f", for {' and '.join(protocols)}" if protocols else ""
        text += f", at {' and '.join(nodes)}" if nodes else ""
        object.__setattr__(self, "suffix", text)

    @property
    def plain(self) -> bool:
        """Return whether it is for all calls."""
        return not self.protocols and not self.node_locations

    @property
    def rank(self) -> tuple[bool, bool]:
        """Return the sort key of the choices of one subnet: narrower ones first."""
        return not self.node_locations, not self.protocols

    def meets(self, request: MediaLocationRequest) -> bool:
        """Return whether it is for this call."""
        return (not self.protocols or request.protocol in self.protocols) and (
            not self.node_locations or request.location in self.node_locations
        )

    def rivals(self, other: Choice) -> bool:
        """Return whether another one of the same subnet is as narrow and a call may meet both:
        nothing says which of them decides.
        """
        return self.rank == other.rank and all(
            not mine or mine & theirs
            for mine, theirs in (
                (self.protocols, other.protocols),
                (self.node_locations, other.node_locations),
            )
        )


Reader = Callable[[MediaLocationRequest], Iterable[str | None]]
Choices = tuple[Choice, ...]
"""The choices of one subnet, narrow ones first."""


class LocationTable:
    """Finds the decision for a call.

    Subnets differ in their names only, so that a large table takes little memory: the reason is
    made for the call, and rendered decisions are shared.
    """

    def __init__(
        self, addresses: Sequence[AddressName | ValueOf], subnets: Subnets[Choices]
    ) -> None:
        self._subnets = subnets
        self.readers = tuple(map(_reader, addresses))
        """The name of each source of an address, and what reads it."""
        self._around: Mapping[str, Match[Choices]] = {
            overlap.inner.subnet: overlap.outer
            for overlap in subnets.overlaps()
            if not overlap.inner.value[-1].plain
        }
        """What to look up when no choice of a subnet is for the call."""

    def __len__(self) -> int:
        return len(self._subnets)

    def reasons(self) -> Iterable[tuple[str, str]]:
        """Yield each subnet, with the calls that it is for, and each reason that names it."""
        for match in self._subnets:
            for choice in match.value:
                for source, _ in self.readers:
                    name = f"{match.subnet}{choice.suffix}"
                    yield name, _reason(source, match, choice)

    def rows(self) -> Iterable[tuple[Sequence[str], Choice]]:
        """Yield the choices in an order in which the first that is for a call decides.

        Subnets of one length and with equal choices are together.
        """
        grouped: dict[tuple[bool, int, tuple[bool, bool], Choice], list[str]] = {}
        for match in self._subnets:
            version, length = ":" in match.subnet, int(match.subnet.partition("/")[2])
            for choice in match.value:
                key = (version, -length, choice.rank, choice)
                grouped.setdefault(key, []).append(match.subnet)
        for key in sorted(grouped, key=lambda key: key[:3]):
            yield grouped[key], key[3]

    def choices(self) -> dict[str, Choices]:
        """Return the choices by subnet."""
        return {match.subnet: match.value for match in self._subnets}

    def find(self, request: MediaLocationRequest) -> MediaLocation | None:
        """Return the decision of the longest prefix with an entry for this call, or ``None``."""
        for source, addresses in self.readers:
            for address in addresses(request):
                found = self._subnets.find(address)
                while found is not None:
                    for choice in found.value:
                        if choice.meets(request):
                            return choice.decision.with_reason(_reason(source, found, choice))
                    found = self._around.get(found.subnet)
        return None


def _reason(source: str, match: Match[Choices], choice: Choice) -> str:
    return f"{source} is in {match.subnet}{choice.suffix}"


def _reader(address: AddressName | ValueOf) -> tuple[str, Reader]:
    if isinstance(address, str):
        return address, _READERS[address]
    return address.value_of, compile_value_of(address).read


_READERS: Mapping[AddressName, Reader] = {
    "remote_address": lambda request: (request.remote_address,),
    "ms_subnet": lambda request: request.ms_subnet,
    "proxy_node_address": lambda request: (request.proxy_node_address,),
}
