"""Short audits in which all happens that a figure of the console may depend on: several servers,
restarts, refused changes, failures, shadows, requests of one call at the edge of two minutes; in
files that are rotated, with damaged and torn lines.
"""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from lab.console_index import generated_audit
from tests.support.audit_lines import decision_id, encoded
from tests.support.counted_lines import DAY, FAULTS, HOUR, MINUTE, Event

PEOPLE = ("alice@example.com", "Bob@example.com", "carol@acme.example", "00473@10.1.2.3")
ALIASES = ("lab@example.com", "board@acme.example", "night@example.com", "17@uni.example")
ROOMS = ("Lab", "Board", "Room 17")
REASONS = (None, "no such room", "closed", "rule Night: closed", "rule Scanners", "rule 7 of 9")
DAMAGE = (b"not a line\n", b'{"event":"decision","ms":\n', b"\xff\xfe\n", b"[1, 2]\n")
BLANK = b" " * 70 + b"\n"


def events(count: int, seed: int, now: int) -> list[Event]:
    """Return about so many lines of the days before ``now``, in milliseconds, in their order."""
    chosen = random.Random(seed)
    servers = chosen.choice((("",), ("",), ("oslo-1", "oslo-2", "bergen-1")))
    reach = chosen.choice((2, 40, 200, 480)) * HOUR
    found: list[Event] = []
    while len(found) < count:
        # Many at this hour of former days, which is what is normal.
        same_hour = DAY * chosen.randrange(1 + reach // DAY) + chosen.randrange(-40, 40) * MINUTE
        ago = max(chosen.choice((same_hour, reach, HOUR, 6 * MINUTE)), 2)
        is_near = chosen.random() < 0.4
        ago = ago + chosen.randrange(1, 5000) if is_near else chosen.randrange(1, ago)
        found += _lines_of_call(chosen, now - ago, chosen.choice(servers), len(found))
    found = sorted((one for one in found if one["at"] < now), key=lambda one: one["at"])
    for number, one in enumerate(found, 1):
        at, is_start = one.pop("at"), one.pop("is_start", number == 1)
        moment = datetime.fromtimestamp(at / 1000, UTC)
        # The first line of a process has the number 1.
        number_in_process = 1 if is_start else number + 1
        one |= {"timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}", "seq": number_in_process}
        if "decision_id" in one:
            one["decision_id"] = decision_id(at, number)
    return [{"timestamp": "", **one} for one in found]


def _lines_of_call(chosen: random.Random, at: int, server: str, number: int) -> Iterator[Event]:
    """Yield the lines of a call, at times one of another kind before them."""
    facts = {"policy_hash": chosen.choice("ab") * 16, "boot_id": f"{server:0>16.16}"}
    facts |= {"instance": server} if server else {}
    if chosen.random() < 0.17:
        yield from ({"at": at, **one, **facts} for one in _others(chosen, at, number))
    unique = f"{chosen.getrandbits(32):08x}"
    texts = {"caller": chosen.choice(PEOPLE), "room": chosen.choice(ALIASES), "time": "", "id": ""}
    texts |= {"node": f"10.44.0.{chosen.randrange(3)}", "address": "10.7.7.7", "seq": "0"}
    texts["uuid"] = f"{unique}-0000-4000-8000-{unique}0000"
    for _ in range(chosen.randrange(1, 5)):
        texts["ms"] = f"{chosen.choice((0, 0.4, 3, 70, 900)) * chosen.random():.3f}"
        values = {name.encode(): text.encode() for name, text in texts.items()}
        one: Event = json.loads(chosen.choice(generated_audit.templates()) % values)
        one |= {"at": at, "ms": round(one["ms"] + sum(s["ms"] for s in one["steps"]), 3), **facts}
        _vary(chosen, one)
        yield one
        if chosen.random() < 0.1:
            step = {"plugin": "newer", "outcome": "decided", "ms": 2.5}
            shadow = {"event": "shadow", "differs": chosen.random() < 0.5, "decided_by": "newer"}
            yield {**one, "at": at + 3, **shadow, "steps": [step], "action": "reject"}
        at += chosen.choice((0, 5, 50_000, 119_999, 120_000, 120_001))


def _others(chosen: random.Random, at: int, number: int) -> Sequence[Event]:
    """Return lines of a reload, a restart, a refused request or a refused booking."""
    error = {"error": f"rooms.csv line {number}: no PIN"} if chosen.random() < 0.4 else {}
    texts = [f"configuration: limits.workers: {n} instead of 1" for n in range(number % 3)]
    reload = {"event": "reload", "accepted": not error, "author": "ann", "changes": texts, **error}
    start = {"event": "refused", "reason": "malformed", "is_start": True}
    refused = {"event": "refused", "reason": "unauthorised", "status": 401, "peer": "10.9.9.9"}
    booking: Event = {
        "meeting": "m1",
        "tenant": "acme",
        "token": "booking",
        "errors": ["/start: is over"],
    }
    booking |= {"event": "change", "plugin": "meetings", "action": "meeting_refused", "status": 409}
    restart: Sequence[Event] = [
        {"event": "end"},
        {"at": at + chosen.choice((1, 40)) * MINUTE, **start},
    ]
    return chosen.choice(([reload], restart, [refused], [booking]))


def _vary(chosen: random.Random, one: Event) -> None:
    """Let a decision be another one: refused, failed, of another place or of no known caller."""
    step, request = one["steps"][-1], one["request"]
    request["location"] = chosen.choice(("Oslo", "Bergen", "Level 2"))
    for name in ("location", "request_id", "call_uuid", "remote_alias", "protocol"):
        if chosen.random() < 0.3:
            request.pop(name, None)
    if one["endpoint"] == "service_configuration" and one["sent"]:
        one["sent"]["name"] = chosen.choice(ROOMS)
    kind = chosen.random()
    if kind < 0.2:
        step |= {"outcome": chosen.choice(FAULTS), "detail": f"E{chosen.randrange(3)} happened"}
        one |= {"decided_by": "default", "action": "continue", "reason": None}
        if kind < 0.1:
            one |= {"decided_by": step["plugin"], "action": "reject", "reason": "failed closed"}
    elif kind < 0.4:
        step |= {"outcome": "decided", "plugin": chosen.choice((step["plugin"], "meetings"))}
        one |= {"decided_by": step["plugin"], "action": "reject", "reason": chosen.choice(REASONS)}


def files(found: Sequence[Event], seed: int) -> Iterator[tuple[bytes, int]]:
    """Yield the content of each file with these lines, and how many damaged ones it has."""
    chosen = random.Random(seed)
    lines = encoded(found).splitlines(keepends=True)
    cuts = {0, len(lines), *(chosen.randrange(1, len(lines)) for _ in range(chosen.randrange(4)))}
    for start, end in pairwise(sorted(cuts)):
        content, damaged = lines[start:end], 0
        for place, line in enumerate(content):
            kind, damage = chosen.randrange(20), chosen.choice(DAMAGE)
            # The third is a line that a full disk tore, and the next one follows.
            made = {0: line + damage, 1: line + BLANK, 2: line[:80] + line}
            content[place] = made.get(kind, line)
            damaged += kind == 0
        yield b"".join(content), damaged
