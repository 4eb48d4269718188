"""Pairs of generated configurations, asked the same generated calls."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pexpolicy.policy import Answer
from pexpolicy.replay.run import Job, run_replay
from tests.replay import audits

CALLS = 200
"""Calls of each pair of configurations."""
ROOMS = tuple(f"room{n}" for n in range(6))
CALLERS = ("alice@example.com", "sip:bob@example.org", "mallory@example.net", "")
ADDRESSES = ("10.0.0.1", "10.1.2.3", "192.0.2.7", "")
START = datetime(2026, 11, 20, tzinfo=UTC)


def check(folder: Path, pairs: int, seed: int) -> int:
    """Compare so many pairs; return how many have other answers, raise ``AssertionError``."""
    differing = 0
    for number in range(-(-pairs // CALLS)):
        chosen = random.Random(f"{seed}-{number}")
        old, new = folder / "old.toml", folder / "new.toml"
        tables = _tables(chosen)
        old.write_text(_configuration(tables))
        new.write_text(_configuration(_changed(tables, chosen)))
        calls = [_call(chosen) for _ in range(CALLS)]
        before, lines = audits.answers(old, calls)
        after, _ = audits.answers(new, calls)
        audit = folder / "audit.jsonl"
        audit.write_bytes(b"\n".join(lines) + b"\n")
        expected: list[bool] = []
        for against, whole in ((None, False), (old, True)):
            result = run_replay([audit], Job(new, against))
            expected = [
                _answer(one, whole=whole) == _answer(other, whole=whole)
                for one, other in zip(before, after, strict=True)
            ]
            counts = Counter(expected)
            told = {True: result.tally.same, False: result.tally.changed}
            assert all(told[is_same] == counts[is_same] for is_same in told), (
                f"pair {number} of seed {seed}: {told}, but live {dict(counts)}"
            )
            assert result.tally.records.total() == CALLS
            # With the counts above, it is these calls and no others that are told to change.
            equal = [line for line, is_same in zip(lines, expected, strict=True) if is_same]
            apart = folder / "equal"
            apart.write_bytes(b"\n".join(equal) + b"\n")
            told_apart = run_replay([apart], Job(new, against)).tally
            assert (told_apart.same, told_apart.changed) == (len(equal), 0)
        same = run_replay([audit], Job(old))
        assert same.tally.changed == 0, same.groups
        differing += sum(not is_same for is_same in expected)
    return differing


def _answer(answer: Answer, *, whole: bool) -> object:
    """Return what is sent, but for the ID; without a PIN's digits unless ``whole``."""
    reply = answer.reply
    if reply.content_type != "application/json":
        return reply.status, reply.body
    body: dict[str, Any] = json.loads(reply.body)
    del body["decision_id"]
    result = body.get("result")
    if not whole and isinstance(result, dict):
        for name in {"pin", "guest_pin", "password"} & result.keys():
            result[name] = "***"
    return reply.status, body


def _call(chosen: random.Random) -> audits.Asked:
    at = START + timedelta(minutes=chosen.randrange(7 * 24 * 60))
    caller, address = chosen.choice(CALLERS), chosen.choice(ADDRESSES)
    alias = chosen.choice((*ROOMS, "made1", "nobody"))
    shared = [
        ("local_alias", chosen.choice((alias, f"sip:{alias}@example.com"))),
        ("remote_alias", caller),
        ("remote_address", address),
        ("protocol", chosen.choice(("sip", "webrtc", "api"))),
        ("call_direction", chosen.choice(("dial_in", "dial_in", "dial_out", "non_dial"))),
        ("idp_attribute_groups", "staff"),
        ("idp_attribute_groups", chosen.choice(("boss", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"))),
        ("new_in_v99", "x"),
    ]
    endpoint = chosen.choice(
        (
            *("service_configuration",) * 3,
            *("participant_properties", "media_location"),
            *("registration_alias", "directory_information"),
        )
    )
    called = f"sip:{alias}@example.com" if endpoint == "registration_alias" else ""
    return endpoint, called, shared, at


Tables = dict[str, Any]


def _tables(chosen: random.Random) -> Tables:
    return {
        "rooms": {name: _room(name, chosen) for name in ROOMS if chosen.random() < 0.7},
        "rules": {f"rule {n}": _rule(chosen) for n in range(chosen.randrange(6))},
        "subnets": {
            subnet: chosen.choice(("Oslo", "Bergen"))
            for subnet in ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24")
            if chosen.random() < 0.6
        },
        "default_room": chosen.random() < 0.3,
        "rooms_first": chosen.random() < 0.2,
    }


def _changed(tables: Tables, chosen: random.Random) -> Tables:
    """Return the tables with a few changes, or none."""
    other = _tables(chosen)
    changed = {
        name: dict(table) if isinstance(table, dict) else table for name, table in tables.items()
    }
    for name in ("default_room", "rooms_first"):
        if chosen.random() < 0.1:
            changed[name] = other[name]
    for name in ("rooms", "rules", "subnets"):
        for key in {**tables[name], **other[name]}:
            if chosen.random() < 0.15:
                changed[name].pop(key, None)
                if key in other[name]:
                    changed[name][key] = other[name][key]
    return changed


def _room(name: str, chosen: random.Random) -> dict[str, Any]:
    room: dict[str, Any] = {"name": chosen.choice((name, name.upper())), "service_tag": "t"}
    if chosen.random() < 0.4:
        room["pin"] = chosen.choice(("471147", "471148"))
    return room


def _rule(chosen: random.Random) -> dict[str, Any]:
    conditions = {
        "local_alias": {"prefix": chosen.choice(("room", "made", "room1"))},
        "remote_alias": {"host": chosen.choice(("example.com", "example.org"))},
        "remote_address": {"in_subnet": ["10.0.0.0/8"]},
        "protocol": chosen.choice(("sip", "webrtc")),
        "time": {"zone": "Europe/Oslo", "between": ["08:00", chosen.choice(("16:00", "20:00"))]},
        "third_party_passcode": "1234",
    }
    names = chosen.sample(sorted(conditions), chosen.choice((1, 2)))
    then: dict[str, Any] = {"action": "reject", "reason": chosen.choice(("closed", "refused"))}
    if chosen.random() < 0.5:
        then = {"result": {"name": "Ruled {remote_alias}", "service_tag": chosen.choice("ab")}}
    return {
        "endpoint": "service_configuration",
        "when": {name: conditions[name] for name in names},
        "then": then,
    }


def _configuration(tables: Tables) -> str:
    return "\n".join(_lines(tables))


def _lines(tables: Tables) -> Iterator[str]:
    yield "[plugins.rules]\npriority = 20"
    for name, rule in tables["rules"].items():
        yield "[[plugins.rules.settings.rules]]"
        yield f"name = {_toml(name)}"
        yield from (f"{key} = {_toml(value)}" for key, value in rule.items())
    yield f"[plugins.rooms]\npriority = {10 if tables['rooms_first'] else 30}"
    yield "[plugins.rooms.settings]"
    if tables["default_room"]:
        yield 'default_room = "Default {local_alias}"'
    yield f"rooms = {_toml(tables['rooms'])}"
    if tables["subnets"]:
        yield "[plugins.locations.settings]"
        entries = [{"subnet": key, "location": value} for key, value in tables["subnets"].items()]
        yield f"subnets = {_toml(entries)}"
    yield '[plugins.domains.settings]\nallowed = ["@example.com"]'


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_toml(v)}' for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
