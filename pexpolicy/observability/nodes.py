"""The last call of each Conferencing Node; the symptom of a wrong URL is that none arrives."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from pexpolicy.access.refusals import REASONS
from pexpolicy.observability.shared_memory import (
    CELL,
    NODE_CELLS,
    NODES,
    SharedCounters,
    WorkerCounters,
)

NAME_BYTES = 48
"""Maximum length of an address; the longest IPv6 address has 45."""
_NAME_CELLS = NAME_BYTES // CELL
_CALLED, _CALLS, _REFUSED, _WHY = range(_NAME_CELLS, NODE_CELLS)


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Times are seconds of the Unix epoch; 0 means never."""

    address: str
    last_call: float
    calls: int
    last_refused: float
    refused_because: str = ""


class Nodes:
    """The last ``NODES`` nodes of one worker, in its counters.

    Addresses that were only refused are forgotten before others: anyone can send from thousands.
    """

    def __init__(self, counters: WorkerCounters) -> None:
        self._raw = counters.nodes_raw
        self._cells = cells = counters.nodes_raw.cast("q")
        self._callers: OrderedDict[str, int] = OrderedDict()
        self._strangers: OrderedDict[str, int] = OrderedDict()
        """Those that were only refused."""
        for name, at in sorted(
            _named(counters),
            key=lambda found: max(cells[found[1] + _CALLED], cells[found[1] + _REFUSED]),
        ):
            (self._callers if cells[at + _CALLS] else self._strangers)[name] = at

    def called(self, node_ip: str | None, peer: str | None = None) -> None:
        """Record an answered call of a node, which it names or else is its peer."""
        address = node_ip or ""
        place = self._callers.get(address)
        if place is None:
            address = address_of(node_ip, peer)
            place = self._callers.get(address)
        if place is None:
            known = self._strangers.pop(address, None)
            place = self._callers[address] = self._new_place(address) if known is None else known
        self._callers.move_to_end(address)
        self._cells[place + _CALLED] = int(time.time() * 1000)
        self._cells[place + _CALLS] += 1

    def refused(self, address: str, why: str) -> None:
        """Record a refused request."""
        known = self._callers if address in self._callers else self._strangers
        place = known.get(address)
        if place is None:
            place = known[address] = self._new_place(address)
        known.move_to_end(address)
        self._cells[place + _REFUSED] = int(time.time() * 1000)
        self._cells[place + _WHY] = REASONS.index(why) if why in REASONS else len(REASONS)

    def _new_place(self, address: str) -> int:
        """Return the cell of a new node: a free one, or that of the longest silent."""
        count = len(self._callers) + len(self._strangers)
        if count < NODES:
            place = count * NODE_CELLS
        else:
            _, place = (self._strangers or self._callers).popitem(last=False)
        for cell in (_CALLED, _CALLS, _REFUSED, _WHY):
            self._cells[place + cell] = 0
        # In one piece: a concurrent reader stops at a cell without a name.
        name = address.encode("utf-8", "replace")[:NAME_BYTES]
        self._raw[place * CELL : place * CELL + NAME_BYTES] = name.ljust(NAME_BYTES, b"\0")
        return place


def seen(board: SharedCounters) -> list[Node]:
    """Return the nodes of all workers, the longest silent first."""
    found: dict[str, Node] = {}
    for counters in board:
        cells = counters.nodes_raw.cast("q")
        for address, at in _named(counters):
            called, calls, refused, why = cells[at + _CALLED : at + NODE_CELLS]
            because = (*REASONS, "another reason")[why] if refused else ""
            node = Node(address, called / 1000, calls, refused / 1000, because)
            found[address] = _merged(node, found.get(address))
    return sorted(found.values(), key=lambda node: (node.last_call, node.address))


def _merged(node: Node, other: Node | None) -> Node:
    """Return one node from the records of two workers."""
    if other is None:
        return node
    refusal = max(node, other, key=lambda seen: seen.last_refused)
    return Node(
        node.address,
        max(node.last_call, other.last_call),
        node.calls + other.calls,
        refusal.last_refused,
        refusal.refused_because,
    )


def _named(counters: WorkerCounters) -> Iterable[tuple[str, int]]:
    """Yield the nodes of a worker, each with its first cell; they are contiguous."""
    for at in range(0, NODES * NODE_CELLS, NODE_CELLS):
        name = bytes(counters.nodes_raw[at * CELL : at * CELL + NAME_BYTES]).rstrip(b"\0")
        if not name:
            return
        yield name.decode("utf-8", "replace"), at


def address_of(node_ip: str | None, peer: str | None) -> str:
    """Return the node that a request names, as it may come through a proxy, else the peer."""
    if node_ip and len(node_ip) <= NAME_BYTES and node_ip.isascii() and node_ip.isprintable():
        return node_ip
    return peer or "unknown"
