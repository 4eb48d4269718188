"""Verification of hash chains: finds lines that are missing, changed, moved or added.

The files alone cannot show that their last lines or the first files are missing, or that they were
rewritten. This takes data that was stored elsewhere: an anchor (number and hash of a line), the
public key of signed checkpoints, or the heads of the chains in the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pexpolicy.audit.hash_chain import CHECKPOINT, END, TAIL, is_valid, statement
from pexpolicy.audit.reader import Fault, RawLine, read
from pexpolicy.audit.targets import HASH_SIZE, decoded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SILENT_S = 300.0
"""Seconds after which a server that was not heard of is silent."""
_BEFORE = re.compile(r"([0-9a-f]{16}):(\d{1,18})(?::([0-9a-f]{64}))?")


class _Line(msgspec.Struct, gc=False):
    """What a line tells about its place."""

    event: str
    after: str = ""
    previous_file: str = ""
    prev: str = ""
    lost_count: int = 0
    instance: str = ""
    covers: object = None
    head: object = None
    signature: object = None


_decode = msgspec.json.Decoder(_Line).decode


class Anchor(NamedTuple):
    """The number and hash of a line that must be in the file."""

    seq: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Parse ``SEQ:HASH``; raises ``ValueError``."""
        if (found := re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)) is None:
            raise ValueError(f"{text!r} is no anchor: write SEQ:HASH, as in a line or a checkpoint")
        return cls(int(found[1]), found[2])


@dataclass
class ChainState:
    """The state of one chain after the lines read so far."""

    boot_id: str
    first: int
    last: int
    head: bytes
    lines: int = 0
    lost: int = 0
    """Lines lost according to the writer."""
    signed_up_to: int | None = None
    has_ended: bool = False
    """Its last line is an end: no line may follow."""
    is_anchored: bool = False
    instance: str = ""

    @property
    def unsigned(self) -> int:
        """Lines at its end that no signed checkpoint covers, as a killed server leaves them."""
        return self.last - (self.first - 2 if self.signed_up_to is None else self.signed_up_to) - 1


@dataclass
class Verification:
    """The chains in a sequence of lines, and their faults."""

    verifier: Ed25519PublicKey | None = None
    """The key of signed checkpoints."""
    anchors: set[Anchor] = field(default_factory=set)
    """Lines that must exist."""
    heads: Sequence[Mapping[str, Any]] = ()
    """The rows of ``Database.chains`` where the lines are those of the database, by chain."""
    found: set[Anchor] = field(default_factory=set)
    chains: dict[str, ChainState] = field(default_factory=dict)
    lines: int = 0
    _unproved: list[tuple[RawLine, str, str, int, bool]] = field(default_factory=list)
    """The lines that follow one which was not read before: the line, its chain, the other chain and
    its line, and whether that may have been rotated away.
    """
    _oldest: Path | None = None

    def verify(self, lines: Iterable[RawLine]) -> Iterator[Fault]:
        """Yield each fault when it is found; those of whole chains at the end."""
        for row in self.heads:
            if row["purged_seq"]:
                boot_id, seq = row["boot_id"], row["purged_seq"]
                head = row["purged_hash"].encode()
                self.chains[boot_id] = ChainState(boot_id, seq + 1, seq, head)
        for raw in lines:
            self.lines += bool(raw.content.strip(b" "))
            for text in self._faults_of_line(raw):
                yield Fault(raw.place, text)
        yield from self._faults_of_chains()

    def _faults_of_line(self, raw: RawLine) -> Iterator[str]:
        if raw.terminated and (line := decoded(raw.content, _decode)) is not None:
            yield from self._record(raw, line)
            return
        for found in read(raw):
            if isinstance(found, Fault):
                yield found.text
            else:
                yield from self._record(found.raw, decoded(found.raw.content, _decode))

    def _record(self, raw: RawLine, line: _Line | None) -> Iterator[str]:
        content = raw.content
        match = TAIL.match(content, max(content.rfind(b',"boot_id":"'), 0))
        if match is None or line is None:
            yield "a line without a hash: its origin cannot be proved"
            return
        boot_id, seq, digest = match[1].decode(), int(match[2]), match[3]
        chain = self.chains.get(boot_id)
        self._oldest = self._oldest or raw.path
        yield from self._check_order(raw, boot_id, line)
        prev = before = line.prev.encode() or None
        if chain is None:
            chain = self.chains[boot_id] = ChainState(boot_id, seq, seq - 1, prev or b"")
            chain.instance = line.instance
            if seq == 1:
                before = b""
            elif prev is None:
                yield f"chain {boot_id} starts at line {seq}: the lines before are missing"
        elif seq == chain.last + 1 and not chain.has_ended:
            before = chain.head
        else:
            yield _out_of_order(chain, seq)
            if seq <= chain.last or chain.has_ended:
                return
        # The server may have overwritten a torn line before this one with blanks.
        hashed = content.lstrip(b" ")[:-HASH_SIZE]
        if before is not None and sha256(before + hashed).hexdigest().encode() != digest:
            yield f"line {seq} of chain {boot_id} or the one before was changed"
        chain.lines += 1
        chain.last, chain.head = seq, digest
        chain.lost += line.lost_count
        found = {Anchor(seq, digest.decode())} & self.anchors
        chain.is_anchored |= bool(found)
        self.found |= found
        chain.has_ended = line.event == END
        is_signed = self.verifier is not None or line.signature is not None
        if line.event == CHECKPOINT or (chain.has_ended and is_signed):
            yield from self._checkpoint(line, chain, before)

    def _check_order(self, raw: RawLine, boot_id: str, line: _Line) -> Iterator[str]:
        """Check the line before the first one of a chain in a file; store it if it was not read."""
        if (named := _BEFORE.fullmatch(line.after or line.previous_file)) is None:
            return
        other, seq, digest = named[1], int(named[2]), named[3]
        before = self.chains.get(other)
        if before is None or (before.last < seq and other != boot_id):
            # Rotation removes whole files. Without the hash, the line may be in an older one.
            may_be_gone = raw.path == self._oldest and (not line.after or digest is None)
            self._unproved.append((raw, boot_id, other, seq, may_be_gone))
        elif before.last == seq and digest not in (None, before.head.decode()):
            yield f"line {seq} of chain {other} was changed after this line was written"

    def _checkpoint(self, line: _Line, chain: ChainState, before: bytes | None) -> Iterator[str]:
        covers = chain.last - 1
        signed = statement(line.event, chain.boot_id, covers, str(line.head))
        if not isinstance(line.signature, str):
            yield f"the {line.event} is not signed"
        elif line.covers != covers:
            yield "a checkpoint of another position"
        elif before is not None and line.head != before.decode():
            yield f"the checkpoint signed another line {covers}"
        elif self.verifier is not None and not is_valid(line.signature, signed, self.verifier):
            yield "the signature of the checkpoint does not match the key"
        else:
            chain.signed_up_to = covers

    def _faults_of_chains(self) -> Iterator[Fault]:
        for raw, boot_id, other, seq, may_be_gone in self._unproved:
            before = self.chains.get(other)
            text = f"this line of chain {boot_id} follows line {seq} of chain {other}, which "
            if before is not None and before.first <= seq <= before.last:
                if self.heads:
                    continue
                yield Fault(raw.place, f"{text}comes later: lines were moved")
            elif not may_be_gone:
                yield Fault(raw.place, f"{text}is missing")
        for seq, digest in sorted(self.anchors - self.found):
            yield Fault("anchor", f"there is no line {seq} with the hash {digest}")
        for chain in self.chains.values():
            if chain.lines and chain.signed_up_to is None and self.verifier is not None:
                wrote = f"nothing proves who wrote its lines {chain.first} to {chain.last}"
                yield Fault(f"chain {chain.boot_id}", f"no signed checkpoint: {wrote}")
        yield from self._faults_of_heads()

    def _faults_of_heads(self) -> Iterator[Fault]:
        """Compare the ends of chains with what the database knew of them, and name silent ones."""
        heard = {row["instance"]: row["time"] for row in self.heads}  # they are sorted by time
        for row in self.heads:
            seq, name = row["seq"], row["instance"]
            place, last = f"chain {row['boot_id']} of {name}", 0
            if (chain := self.chains.get(row["boot_id"])) is not None:
                chain.is_anchored, chain.instance, last = True, name, chain.last
                if last == seq and chain.head.decode() != row["hash"]:
                    yield Fault(place, f"line {last} is another one than was shipped")
            is_silent = row["age"] > SILENT_S
            if last < seq and (is_silent or not row["pending"]):
                text = f"its last {seq - last} lines are missing: its server wrote line {seq}"
                yield Fault(place, f"{text}, and line {last} is the last here")
            is_last = heard[name] == row["time"] and row["purged_seq"] < seq
            if is_last and is_silent and not row["ended"]:
                since = f"{row['time'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
                text = f"silent since {since}: lines after {seq} are not here if there were any"
                yield Fault(place, text)

    def as_json(self, faults: int) -> dict[str, Any]:
        """Return the number of lines and ``faults``, and each chain with its last line."""
        return {
            "lines": self.lines,
            "faults": faults,
            "chains": [
                {
                    "boot_id": chain.boot_id,
                    "instance": chain.instance or None,
                    "lines": chain.lines,
                    "first": chain.first,
                    "head": f"{chain.last}:{chain.head.decode()}",
                    "lost": chain.lost,
                    "ended": chain.has_ended,
                    "signed_up_to": chain.signed_up_to,
                    "unsigned": chain.unsigned,
                    "anchored": chain.is_anchored,
                }
                for chain in self.chains.values()
            ],
        }


def _out_of_order(chain: ChainState, seq: int) -> str:
    if chain.has_ended or seq <= chain.last:
        end = "its end, " * chain.has_ended
        return f"line {seq} of chain {chain.boot_id} follows {end}line {chain.last}"
    missing = f"{chain.last + 1}" if seq == chain.last + 2 else f"{chain.last + 1} to {seq - 1}"
    return f"chain {chain.boot_id}: missing before this line: {missing}"
