"""Verifying the chains: which lines are missing, changed, moved or added, and where.

What a chain cannot show by itself: that lines at its end are missing, that whole chains are, or
that somebody who may write the file has written it anew. For that it is compared with something
that was kept elsewhere: an anchor (number and hash of a line), or signed checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import msgspec

from pexpolicy.audit.checkpoints import CHECKPOINT, END, Checkpoint, Verifier
from pexpolicy.audit.reader import CorruptLine, RawLine, Record, read

_SEAL = re.compile(
    rb'(?:,"prev":"([0-9a-f]{64})")?(?:,"lost_count":(\d{1,18}))?(?:,"instance":"(?:[^"\\]|\\.)*")?'
    rb',"boot_id":"([0-9a-f]{16})","seq":(\d{1,18}),"hash":"([0-9a-f]{64})"\}\Z'
)
_HASH = len(b',"hash":""}') + 64


class Anchor(NamedTuple):
    """A line that must be there: its number and its hash."""

    seq: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """From ``SEQ:HASH``; raises ``ValueError``."""
        seq, _, digest = text.partition(":")
        if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", text):
            msg = f"{text!r} is no anchor: write SEQ:HASH, as a line or a checkpoint has them"
            raise ValueError(msg)
        return cls(int(seq), digest)


@dataclass
class ChainState:
    """What was found of the lines of one writer."""

    boot_id: str
    first: int
    last: int
    head: bytes
    lines: int = 0
    lost: int = 0
    """Lines that the writer itself said were lost."""
    checkpoints: int = 0
    signed_up_to: int | None = None
    has_ended: bool = False
    """Its writer said that no line follows."""
    is_anchored: bool = False


class ChainFinding(NamedTuple):
    """What is wrong, and at which line."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass
class Verification:
    """The chains in a sequence of lines, and all that is wrong with them."""

    verifier: Verifier | None = None
    anchors: set[Anchor] = field(default_factory=set)
    """Lines that must be there; each chain has to have one, unless its signature is verified."""
    found: set[Anchor] = field(default_factory=set)
    chains: dict[str, ChainState] = field(default_factory=dict)
    lines: int = 0

    def verify(self, lines: Iterable[RawLine]) -> Iterator[ChainFinding]:
        """Each fault as soon as it is found; those of the whole at the end."""
        for raw in lines:
            if not raw.content.strip(b" "):
                continue
            self.lines += 1
            for found in read(raw):
                if isinstance(found, CorruptLine):
                    yield ChainFinding(found.raw.place, found.text)
                else:
                    yield from self._record(found)
        yield from self._at_the_end()

    def _record(self, record: Record) -> Iterator[ChainFinding]:
        raw = record.raw
        seal = _SEAL.search(raw.content)
        if seal is None:
            yield ChainFinding(raw.place, "a line without a seal: nobody knows who added it")
            return
        prev, lost, boot, number, digest = seal.groups()
        boot_id, seq = boot.decode(), int(number)
        chain = self.chains.get(boot_id)
        before: bytes | None = prev
        if chain is None:
            chain = self.chains[boot_id] = ChainState(boot_id, seq, seq - 1, prev or b"")
            if seq == 1:
                before = b""
            elif prev is None:
                yield ChainFinding(
                    raw.place, f"chain {boot_id} begins at {seq}: what was before is gone"
                )
        elif seq == chain.last + 1 and not chain.has_ended:
            before = chain.head
        else:
            yield ChainFinding(raw.place, _gap(chain, seq))
            if seq <= chain.last or chain.has_ended:
                return
        if before is not None and not _fits(raw.content, before, digest):
            yield ChainFinding(
                raw.place, f"line {seq} of chain {boot_id} or the one before was changed"
            )
        chain.lines += 1
        chain.last, chain.head = seq, digest
        chain.lost += int(lost or 0)
        self._look_for_anchor(chain)
        event = record.event["event"]
        chain.has_ended = event == END
        if event == CHECKPOINT or (event == END and self._is_signed(record)):
            yield from self._checkpoint(record, chain, before)

    def _look_for_anchor(self, chain: ChainState) -> None:
        anchor = Anchor(chain.last, chain.head.decode())
        if anchor in self.anchors:
            chain.is_anchored = True
            self.found.add(anchor)

    def _is_signed(self, record: Record) -> bool:
        return self.verifier is not None or "signature" in record.event

    def _checkpoint(
        self, record: Record, chain: ChainState, before: bytes | None
    ) -> Iterator[ChainFinding]:
        place = record.raw.place
        try:
            said = msgspec.convert(record.event, Checkpoint)
        except msgspec.ValidationError as error:
            yield ChainFinding(place, f"the {record.event['event']} is not signed: {error}")
            return
        chain.checkpoints += 1
        head = (before or b"").decode()
        if (said.boot_id, said.covers) != (chain.boot_id, chain.last - 1):
            yield ChainFinding(place, "a checkpoint of another place")
        elif before is not None and said.head != head:
            yield ChainFinding(place, f"the checkpoint signed another line {said.covers}")
        elif self.verifier is not None and not self.verifier.holds(said):
            yield ChainFinding(place, "the signature of the checkpoint does not fit the key")
        else:
            chain.signed_up_to = said.covers

    def _at_the_end(self) -> Iterator[ChainFinding]:
        for anchor in sorted(self.anchors - self.found):
            yield ChainFinding(
                "anchor", f"there is no line {anchor.seq} with the hash {anchor.hash}"
            )
        for chain in self.chains.values():
            if chain.signed_up_to is None and self.verifier is not None:
                yield ChainFinding(f"chain {chain.boot_id}", "it has no signed checkpoint")
            elif self.verifier is None and self.anchors and not chain.is_anchored:
                yield ChainFinding(
                    f"chain {chain.boot_id}", "no anchor is in it: it may have been added"
                )


def _fits(content: bytes, before: bytes, digest: bytes) -> bool:
    # Half a line of another writer that stood before this one was blanked by the server itself.
    content = content.lstrip(b" ")
    return sha256(before + content[:-_HASH]).hexdigest().encode() == digest


def _gap(chain: ChainState, seq: int) -> str:
    if chain.has_ended:
        return f"line {seq} of chain {chain.boot_id} stands after its end, line {chain.last}"
    if seq <= chain.last:
        return f"line {seq} of chain {chain.boot_id} stands behind line {chain.last}"
    missing = f"{chain.last + 1}" if seq == chain.last + 2 else f"{chain.last + 1} to {seq - 1}"
    return f"chain {chain.boot_id}: missing before this line: {missing}"
