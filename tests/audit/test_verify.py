"""Verification: each change is found, some of them only with an anchor."""

import copy
import json
import random
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.hash_chain import HashChain, Signer
from pexpolicy.audit.reader import RawLine, raw_lines
from pexpolicy.audit.rotation import rotated
from pexpolicy.audit.verify import Anchor, Verification
from pexpolicy.config.secrets import InvalidKeyError, private_key, public_key
from tests.audit.edits import EDITS, NEED_AN_ANCHOR, Edit, Segments
from tests.audit.places import Place, body, chained, faults, lines
from tests.support.fake_plugins import open_audit

SEED = 20261126
TRIALS = {True: 12_000, False: 900}


def segments(files: int = 4, length: int = 9) -> Segments:
    """Return the rotated files of one writer."""
    chain = HashChain()
    made: Segments = []
    for file in range(files):
        chain.starts_file = True
        made.append([])
        for number in range(length):
            made[-1].append(chained(chain, body(file * length + number)))
    return made


def found(files: Segments, anchors: set[Anchor] | None = None) -> list[str]:
    raws = [
        RawLine(Path(f"file {number}"), at, line.removesuffix(b"\n"), line.endswith(b"\n"))
        for number, file in enumerate(files)
        for at, line in enumerate(b"".join(file).splitlines(keepends=True), 1)
    ]
    return [str(fault) for fault in Verification(anchors=anchors or set()).verify(raws)]


def anchor(line: bytes) -> Anchor:
    event = json.loads(line)
    return Anchor.parse(f"{event['seq']}:{event['hash']}")


def all_found(trials: int, edits: tuple[Edit, ...], *, anchored: bool) -> None:
    whole = segments()
    assert found(whole) == []
    anchors = {anchor(whole[0][0]), anchor(whole[-1][-1])} if anchored else set()
    for trial in range(trials):
        rng = random.Random(f"{SEED}/{trial}")
        edited = copy.deepcopy(whole)
        edit = edits[trial % len(edits)]
        what = edit(edited, rng)
        assert found(edited, set(anchors)), f"trial {trial}: {edit.__name__}: {what}"


def fill(audit: AuditLog, count: int) -> None:
    for number in range(count):
        audit.refused("unknown path", 404, f"127.0.0.{number}", "")


def starts(folder: Path, count: int = 3, key: str | None = None) -> list[list[bytes]]:
    """Return the lines of servers that wrote one file, one after the other. The third is killed in
    its first second.
    """
    path = folder / "audit.jsonl"
    written: list[list[bytes]] = []
    for start in range(count):
        audit = open_audit(path, sign_key=key)
        fill(audit, 3 + start)
        if start != 2:
            audit.close()
        now = path.read_bytes().splitlines(keepends=True)
        written.append(now[sum(map(len, written)) :])
    return written


def test_lines_moved_between_the_chains_of_two_starts_are_found(tmp_path: Path) -> None:
    chains = starts(tmp_path)
    order = [number for number, chain in enumerate(chains) for _ in chain]
    assert len(order) > 10
    for trial in range(300):
        rng = random.Random(f"{SEED}/{trial}")
        moved = order.copy()
        if trial % 2:
            rng.shuffle(moved)
        else:
            moved.insert(rng.randrange(len(moved)), moved.pop(rng.randrange(len(moved))))
        left = [iter(chain) for chain in chains]
        faulty = found([[next(left[number]) for number in moved]])
        assert bool(faulty) == (moved != order), f"trial {trial}: {moved}"
        if moved != order:
            assert "lines were moved" in faulty[0]


def edited(line: bytes, seq: int, before: bytes) -> bytes:
    """Return another line in place of the last one of a chain."""
    head = json.loads(before)["hash"].encode()
    return forged(body(9), head, json.loads(line)["boot_id"].encode(), seq)


CHANGES: dict[str, tuple[Callable[[list[list[bytes]]], list[list[bytes]]], bool, bool]] = {
    "nothing": (lambda c: c, False, False),
    "the first chain": (lambda c: c[1:], True, True),
    "the last chain is gone": (lambda c: c[:-1], False, False),
    "the last lines of a killed chain": (lambda c: [*c[:2], c[2][:-3], c[3]], True, True),
    "two chains": (lambda c: [c[0], c[3]], True, True),
    "all but the first and last lines": (lambda c: [c[0][:1], c[3]], True, True),
    "an end and lines before it": (lambda c: [c[0][:-2], *c[1:]], True, True),
    "an end, and the chain after it": (lambda c: [c[0], c[1][:-2], c[3]], True, True),
    "the last line of a killed chain is another one": (
        lambda c: [*c[:2], [*c[2][:-1], edited(c[2][-1], len(c[2]), c[2][-2])], c[3]],
        True,
        True,
    ),
    "a chain is added": (lambda c: [*c, [forged(body(1), b"", b"%016d" % 1, 1)]], False, True),
}
"""Changes to four chains, and whether each is found without the public key, and with it."""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("signed", [False, True])
def test_a_line_that_a_later_one_names_is_missed(tmp_path: Path, change: str, signed: bool) -> None:
    key, verifier = keys()
    chains = starts(tmp_path, 4, key if signed else None)
    edit, *is_found = CHANGES[change]
    path = tmp_path / "edited"
    path.write_bytes(b"".join(line for chain in edit(chains) for line in chain))
    known = faults(path, verifier=verifier if signed else None)
    assert bool(known) == is_found[signed], known


@pytest.mark.parametrize("signed", [False, True])
def test_what_rotation_and_keeping_removed_is_no_fault_and_a_file_between_is(
    tmp_path: Path, signed: bool
) -> None:
    key, verifier = keys()
    path = tmp_path / "audit.jsonl"
    opened = partial(open_audit, path, sign_key=key if signed else None)
    busy, idle, killed = opened(), opened(), opened()
    fill(idle, 1)
    for number in range(6):
        fill(busy, 2)
        if number in (1, 4):
            fill(idle, 1)
        if number == 2:
            fill(killed, 2)
        path.rename(f"{path}.20261126T01020{number}000000Z")
        busy.sink.reopen()
        idle.sink.reopen()
        if number == 3:
            busy.close()
            busy = opened()
    fill(busy, 2)
    files = [*rotated(path), path]
    check = partial(faults, verifier=verifier if signed else None)
    assert [check(*files[at:]) for at in range(len(files))] == [[]] * 7
    assert all(check(*files[:at], *files[at + 1 :]) for at in range(1, len(files) - 1))
    assert check(*reversed(files))


@pytest.mark.parametrize("heavy", [pytest.param(True, marks=pytest.mark.heavy), False])
def test_every_random_edit_is_found(heavy: bool) -> None:
    all_found(TRIALS[heavy], tuple(EDITS), anchored=False)


@pytest.mark.parametrize("heavy", [pytest.param(True, marks=pytest.mark.heavy), False])
def test_what_is_cut_off_at_a_border_is_found_with_anchors(heavy: bool) -> None:
    all_found(TRIALS[heavy] // 9, tuple(NEED_AN_ANCHOR), anchored=True)


def test_a_fault_names_the_line_and_what_is_wrong_with_it() -> None:
    whole = segments(1, 9)
    del whole[0][2:4]
    whole[0][5] = whole[0][5].replace(b'"n":7', b'"n":8')
    chain = json.loads(whole[0][0])["boot_id"]
    assert found(whole) == [
        f"file 0:3: chain {chain}: missing before this line: 3 to 4",
        f"file 0:6: line 8 of chain {chain} or the one before was changed",
    ]


def test_lines_of_several_writers_may_alternate(tmp_path: Path) -> None:
    places = [Place(tmp_path), Place(tmp_path), Place(tmp_path)]
    for number in range(30):
        places[number % 3].fill([number])
    assert faults(tmp_path / "audit.jsonl") == []
    written = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    assert len(found([written[:13] + written[14:]])) == 1


def keys() -> tuple[str, Ed25519PublicKey]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public_key(public)


def signer() -> tuple[Signer, Ed25519PublicKey]:
    private, verifier = keys()
    return Signer(private_key(private), 5), verifier


def signed_place(folder: Path) -> tuple[Place, Ed25519PublicKey]:
    signing, verifier = signer()
    return Place(folder, options={"signer": signing}), verifier


def test_checkpoints_are_signed_after_lines_and_after_seconds_and_at_the_end(
    tmp_path: Path,
) -> None:
    place, verifier = signed_place(tmp_path)
    for _ in range(4):
        place.fill(range(5))
        place.clock.pass_by(1.0)
    place.fill([1])
    place.clock.pass_by(61.0)
    place.fill([2])
    place.journal.close()
    points = [line for line in lines(place.path) if line["event"] == "checkpoint"]
    assert [point["covers"] for point in points] == [0, 6, 12, 18, 24, 26, 28]
    assert faults(place.path, verifier=verifier) == []
    assert [json.loads(texts) for texts in place.alerts] == points[1:]
    anchors = {Anchor(point["covers"], point["head"]) for point in points[1:]}
    assert faults(place.path, verifier=verifier, anchors=anchors) == []


def test_a_chain_that_was_written_again_has_no_matching_signature(tmp_path: Path) -> None:
    signing, verifier = signer()
    others, _ = signer()
    texts: list[str] = []
    for name, checkpoints in (("signed", signing), ("forged", others), ("plain", None)):
        folder = tmp_path / name
        folder.mkdir()
        place = Place(folder, options={"signer": checkpoints})
        place.fill(range(9))
        place.journal.close()
        texts = faults(place.path, verifier=verifier)
        assert bool(texts) == (name != "signed"), texts
    assert "no signed checkpoint" in texts[0]
    assert "lines 1 to 9" in texts[0]


@pytest.mark.parametrize("pem", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_reported(pem: str) -> None:
    with pytest.raises(InvalidKeyError):
        private_key(pem)
    with pytest.raises(InvalidKeyError):
        public_key(pem.encode())


@pytest.mark.parametrize("text", ["", "5", "5:abc", f"x:{'0' * 64}", f"5:{'g' * 64}"])
def test_what_is_no_anchor_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="is no anchor"):
        Anchor.parse(text)


def forged(body: bytes, head: bytes, boot_id: bytes, seq: int) -> bytes:
    """Return a line that fits a chain, made without the key."""
    text = body[:-1] + b',"boot_id":"%b","seq":%d' % (boot_id, seq)
    return b'%b,"hash":"%b"}\n' % (text, sha256(head + text).hexdigest().encode())


@pytest.mark.parametrize("signed", [True, False])
def test_lines_after_the_end_of_a_chain_are_found(tmp_path: Path, signed: bool) -> None:
    signing, verifier = signer()
    place = Place(tmp_path, options={"signer": signing} if signed else {})
    place.journal.writes_end = True
    place.fill(range(3))
    place.journal.close()
    options = {"verifier": verifier} if signed else {}
    assert faults(place.path, **options) == []
    end = lines(place.path)[-1]
    assert (end["event"], end.get("covers")) == ("end", 4 if signed else None)
    whole = place.path.read_bytes()
    for number in (6, 9):
        added = forged(body(9), end["hash"].encode(), end["boot_id"].encode(), number)
        place.path.write_bytes(whole + added)
        (fault,) = faults(place.path, **options)
        assert f"follows its end, line {5 if signed else 4}" in fault


def test_an_end_that_is_not_signed_is_no_end_of_a_signed_chain(tmp_path: Path) -> None:
    place, verifier = signed_place(tmp_path)
    place.fill(range(3))
    place.journal.close()
    last = lines(place.path)[-1]
    end = b'{"timestamp":"2026-11-26T01:02:03Z","event":"end"}'
    with place.path.open("ab") as file:
        file.write(forged(end, last["hash"].encode(), last["boot_id"].encode(), 6))
    (fault,) = faults(place.path, verifier=verifier)
    assert "the end is not signed" in fault


def test_a_checkpoint_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    place, verifier = signed_place(tmp_path)
    place.fill(range(5))
    place.break_down()
    place.clock.pass_by(1.0)
    place.journal.tick()
    place.recover()
    assert [line["event"] for line in lines(place.path)][6:] == ["checkpoint"]
    assert faults(place.path, verifier=verifier) == []


def test_a_checkpoint_cannot_be_made_an_end(tmp_path: Path) -> None:
    place, verifier = signed_place(tmp_path)
    place.fill(range(3))
    place.journal.close()
    *before, last = place.path.read_bytes().splitlines(keepends=True)
    head, boot_id = json.loads(before[-1])["hash"], json.loads(last)["boot_id"].encode()
    claimed = last[: last.index(b',"boot_id"')].replace(b'"checkpoint"', b'"end"') + b"}"
    again = forged(claimed, head.encode(), boot_id, 5)
    place.path.write_bytes(b"".join([*before, again]))
    texts = faults(place.path, verifier=verifier)
    assert "the signature of the checkpoint does not match the key" in texts[0]


def test_a_chain_without_an_anchor_is_no_fault(tmp_path: Path) -> None:
    first, second = Place(tmp_path), Place(tmp_path)
    first.fill(range(3))
    second.fill(range(3))
    written = first.path.read_bytes().splitlines(keepends=True)
    verification = Verification(anchors={anchor(written[1])})
    assert [*verification.verify(raw_lines([first.path]))] == []
    assert [chain.is_anchored for chain in verification.chains.values()] == [True, False]


def test_a_start_without_a_call_is_no_fault(tmp_path: Path) -> None:
    signing, verifier = signer()
    place = Place(tmp_path, options={"signer": signing})
    place.journal.close()
    assert place.path.read_bytes() == b""
    before = Place(tmp_path)
    before.journal.record(signing.line(before.chain))
    assert lines(place.path)[0]["covers"] == 0
    assert faults(place.path, verifier=verifier) == []


def test_no_line_has_a_key_twice(tmp_path: Path) -> None:
    """Strict readers, such as those of search engines, refuse such an object."""
    place, _ = signed_place(tmp_path)
    place.fill(range(3))
    place.journal.close()
    written = place.path.read_text().splitlines()
    assert len(written) > 3, "a signed checkpoint follows the lines"
    for line in written:
        pairs = json.loads(line, object_pairs_hook=list)
        assert len(dict(pairs)) == len(pairs), line


def test_each_checkpoint_is_an_anchor_on_standard_error(tmp_path: Path) -> None:
    place, _ = signed_place(tmp_path)
    place.fill(range(3))
    place.clock.pass_by(3600.0)
    place.fill([3])
    place.journal.close()
    assert [json.loads(text)["covers"] for text in place.alerts] == [4, 6]


@pytest.mark.parametrize(
    "bad", [b'{"timestamp":"t","event":}', b'{"timestamp":"\xff","event":"decision"}']
)
def test_a_line_that_is_not_json_is_found_though_its_hash_matches(bad: bytes) -> None:
    chain = HashChain()
    written = [chained(chain, line) for line in (body(1), bad, body(2))]
    assert found([written])[0].startswith("file 0:2: a torn line")
