"""Numbers of calls: each is that of an independent count of the lines."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy_console.index.lines import RESULTS
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import IndexReader
from pexpolicy_console.index.writer import CALL, QUARTER_MS, IndexWriter
from pexpolicy_console.pages import decisions
from tests.support.audit_lines import EPOCH, append, line

MINUTES = 60_000
Line = Mapping[str, Any]
ENDPOINTS = ("service_configuration", "participant_properties", "media_location")
OTHERS = ("participant_avatar", "registration_alias")
REASONS = (None, "no such room", "rule Night: closed", "rule Scanners")
LINES = st.fixed_dictionaries(
    {
        "wait": st.sampled_from((0, 5, 50_000, 119_999, 120_001, 900_000)),
        "instance": st.sampled_from(("", "oslo-1", "bergen-1")),
        "endpoint": st.sampled_from((*ENDPOINTS, *ENDPOINTS, *OTHERS)),
        "caller": st.sampled_from(("alice@example.com", "SIP:Alice@example.com", "bob", "")),
        "room": st.sampled_from(("lab@example.com", "board@example.com")),
        "request_id": st.sampled_from(("", "", "one", "two")),
        "location": st.sampled_from(("", "Oslo", "Bergen")),
        "reason": st.sampled_from(REASONS),
        "outcome": st.sampled_from(("decided", "failed", "abstained")),
        "action": st.sampled_from(("continue", "reject")),
        "event": st.sampled_from(("decision", "decision", "decision", "shadow", "refused")),
        # What happens after the line.
        "then": st.sampled_from(("", "", "", "", "rotate", "damage", "restart", "remove")),
    }
)


def as_line(number: int, at: int, drawn: Line) -> dict[str, Any]:
    request = {"local_alias": drawn["room"], "remote_alias": drawn["caller"]}
    request |= {name: drawn[name] for name in ("request_id", "location") if drawn[name]}
    steps = [{"plugin": "rooms", "outcome": drawn["outcome"], "ms": 1.0}]
    kept = {name: drawn[name] for name in ("endpoint", "reason", "action", "event", "instance")}
    name = drawn["room"].partition("@")[0]
    return line(number, at, request=request, steps=steps, sent={"name": name}, **kept)


def calls_of(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the requests of each call, as the definition has it."""
    calls: list[list[Line]] = []
    owners: dict[object, int] = {}
    over = set[int]()
    for one in lines:
        if one["event"] != "decision" or one["endpoint"] not in ENDPOINTS:
            continue
        for number, (first, *_) in enumerate(calls):
            if first["instance"] == one["instance"] and time_of(one) - time_of(first) > 120_000:
                over.add(number)
        asked = one["request"]
        keys: list[object] = [asked["request_id"]] if "request_id" in asked else []
        if asked["remote_alias"]:
            bare = asked["remote_alias"].lower().removeprefix("sip:")
            keys.append((bare, asked["local_alias"]))
        near = (
            owners[key]
            for key in keys
            if key in owners
            and owners[key] not in over
            and abs(time_of(one) - time_of(calls[owners[key]][0])) <= 120_000
        )
        number = next(near, len(calls))
        if number == len(calls):
            calls.append([])
        calls[number].append(one)
        owners |= dict.fromkeys(keys, number)
    return calls


def time_of(one: Line) -> int:
    return int(one["decision_id"].replace("-", "")[:12], 16)


def result_of(one: Line) -> int:
    if one["action"] == "continue":
        return 0
    return 2 if one["steps"][0]["outcome"] == "failed" else 1


VALUES: Mapping[str, Callable[[Line], str | None]] = {
    "room": lambda one: one["sent"]["name"] if one["endpoint"] == ENDPOINTS[0] else "",
    "location": lambda one: one["request"].get("location"),
    "reason": lambda one: one["reason"],
    "plugin": lambda one: one["decided_by"],
    "node": lambda one: one["request"]["node_ip"],
    "instance": lambda one: one["instance"],
    "policy": lambda one: one["policy_hash"],
}


def counted(calls: Sequence[list[Line]], kind: str, start: int, end: int) -> Counter[Any]:
    found = Counter[Any]()
    for call in calls:
        worst = max(call, key=result_of)
        known = [worst] if kind in ("reason", "plugin") else call
        value = "" if kind == "all" else next(filter(None, map(VALUES[kind], known)), None)
        if value is not None and start <= time_of(call[0]) < end:
            found[value, result_of(worst)] += 1
    return found


def write(
    folder: Path, drawn: Sequence[Line], segment_lines: int = 7
) -> tuple[IndexReader, list[dict[str, Any]]]:
    """Write and index an audit, with all that happens to it."""
    audit, lines, times = folder / "audit.jsonl", list[dict[str, Any]](), Counter[str]()
    new = partial(IndexWriter, folder / "index", audit, 1 << 40, segment_lines)
    writer = new()
    for number, one in enumerate(drawn):
        times[one["instance"]] += one["wait"]
        lines.append(as_line(number, EPOCH + times[one["instance"]], one))
        append(audit, lines[-1:])
        if one["then"] == "damage":
            with audit.open("ab") as file:
                file.write(b'{"timestamp":"2023-11-15T11:06:41Z","event":"decision","ms":\n')
        elif one["then"]:
            while writer.step():
                pass
        if one["then"] == "rotate":
            audit.rename(audit.with_name(f"audit.jsonl.{number:06}"))
        elif one["then"] == "remove":
            for rotated in folder.glob("audit.jsonl.*"):
                rotated.unlink()
        elif one["then"] == "restart":
            writer.close()
            writer = new()
    while writer.step():
        pass
    writer.close()
    return IndexReader(folder / "index", audit, clock=lambda: 0.0), lines


@given(
    st.lists(LINES, min_size=1, max_size=40),
    st.lists(st.integers(-100, 5000).map(lambda n: EPOCH + n * 20_011), min_size=2, unique=True),
)
def test_numbers_are_those_of_a_count(drawn: list[Line], moments: list[int]) -> None:
    bounds = sorted([*moments, (EPOCH // QUARTER_MS + 9) * QUARTER_MS])
    with tempfile.TemporaryDirectory() as folder:
        reader, lines = write(Path(folder), drawn)
        calls = calls_of(lines)
        assert reader.since() == min(map(time_of, lines))
        for kind in (*VALUES, "all"):
            for found, (start, end) in zip(
                reader.tallies(kind, bounds), pairwise(bounds), strict=True
            ):
                assert +Counter(
                    {(v, r): t.counts[r] for v, t in found.items() for r in range(3)}
                ) == counted(calls, kind, start, end), kind
        hits = Counter(
            one["reason"].removeprefix("rule ").partition(":")[0]
            for one in lines
            if one["event"] == "decision" and (one["reason"] or "").startswith("rule ")
        )
        everything = (EPOCH - 1, EPOCH + 10**10)
        (found,) = reader.tallies("rule", everything)
        assert Counter({name: tally.total for name, tally in found.items()}) == hits
        for result, name in enumerate(RESULTS):
            # The answer of a shadow was not sent.
            sent = [one for one in lines if one["event"] == "decision"]
            mine = [one for one in sent if result_of(one) == result]
            assert reader.total(Query(result=name)) == len(mine)
        assert reader.total(Query()) == len(lines)
        assert decisions.read(reader, Query(), None)["calls"] == len(calls)


VIEWS: Sequence[tuple[Mapping[str, str], Callable[[Line], bool] | None]] = (
    ({}, lambda _: True),
    ({"location": "Oslo"}, lambda one: one["request"].get("location") == "Oslo"),
    ({"result": "refused"}, lambda one: result_of(one) == 1),
    ({"event": "shadow"}, lambda _: False),
    ({"plugin": "rooms"}, None),
    ({"endpoint": "registration_alias"}, None),
)
"""Filters, and which requests of calls they find; ``None`` where it needs those of others."""


@given(
    st.lists(LINES, min_size=1, max_size=40),
    st.one_of(st.none(), st.tuples(st.integers(-100, 3000), st.integers(1, 20_000))),
    st.sampled_from(VIEWS),
)
def test_heading_columns_and_links_agree(
    drawn: list[Line],
    seconds: tuple[int, int] | None,
    view: tuple[Mapping[str, str], Callable[[Line], bool] | None],
) -> None:
    query, start, end = Query(view[0]), 0, decisions.END
    if seconds is not None:
        start = EPOCH + 1000 * seconds[0]
        end = start + 1000 * seconds[1]
        query = query.between(start, end)
    if view[1] is not None:
        drawn = [one for one in drawn if one["endpoint"] in ENDPOINTS]
    requests = Query(query, event="decision", requests="1")
    with tempfile.TemporaryDirectory() as folder:
        reader, lines = write(Path(folder), drawn)
        found = decisions.read(reader, query, None)
        if view[1] is not None:
            calls = (one for one in calls_of(lines) if start <= time_of(one[0]) < end)
            assert found["calls"] == sum(any(map(view[1], one)) for one in calls)
        of_requests = decisions.read(reader, requests, None)
        if seconds is None:
            return  # The columns are those of the last day.
        assert sum(sum(one.counts) for one in found["bars"]) == found["calls"]
        for one in found["bars"]:
            linked = decisions.read(reader, query.between(one.at, one.end), None)
            assert sum(one.counts) == linked["calls"]
        assert sum(sum(one.counts) for one in of_requests["bars"]) == of_requests["lines"]
        for one in of_requests["bars"]:
            assert sum(one.counts) == reader.total(requests.between(one.at, one.end))


def test_a_call_in_two_segments_is_the_worst_of_its_lines(tmp_path: Path) -> None:
    same = {"wait": 5, "instance": "", "endpoint": ENDPOINTS[0], "caller": "bob", "room": "lab"}
    same |= {"request_id": "", "location": "", "reason": None, "outcome": "decided"}
    actions = ("reject", "continue")
    drawn = [same | {"action": one, "event": "decision", "then": "rotate"} for one in actions]
    reader, _ = write(tmp_path, drawn, segment_lines=1)
    (call,), _ = reader.calls(Query())
    assert call.result == RESULTS.index("refused")


def test_whole_hours_are_counted_in_each_segment(tmp_path: Path) -> None:
    audit, day = tmp_path / "audit.jsonl", 1440
    writer = IndexWriter(tmp_path / "index", audit, 1 << 40, 1)
    for number, at in enumerate((EPOCH, EPOCH + day * MINUTES)):
        append(audit, [line(number, at)])
        while writer.step():
            pass
    writer.close()
    start = EPOCH // MINUTES + 20
    found = IndexReader(tmp_path / "index", audit).minutes(start, start + day)
    assert sum(count for _, kind, *_, count in found if kind == CALL) == 2


def test_what_a_shadow_would_have_refused_is_found_and_was_not_refused(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    request = {"remote_alias": "sip:bob@example.com", "local_alias": "sip:lab@example.com"}
    shadow: dict[str, Any] = {
        "event": "shadow",
        "decided_by": "newer",
        "action": "reject",
        "differs": True,
    }
    append(audit, [line(1, request=request), line(2, request=request, **shadow)])
    writer = IndexWriter(tmp_path / "index", audit)
    while writer.step():
        pass
    writer.close()
    reader = IndexReader(tmp_path / "index", audit)
    (call,), _ = reader.calls(Query())
    assert call.result == RESULTS.index("accepted")
    assert reader.search(Query(result="refused")) == []
    (found,) = reader.search(Query(event="shadow", action="reject"))
    assert (found.event or {})["seq"] == 3
