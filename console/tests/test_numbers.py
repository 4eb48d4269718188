"""Numbers of calls: each is that of an independent count of the lines."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
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
from tests.support.counted_lines import KINDS, Count

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
        count = Count(lines, EPOCH + 10**10, UTC)
        assert reader.since() == count.first
        for kind in (*KINDS, "all", "rule"):
            tallies = reader.tallies(kind, bounds)
            for found, (start, end) in zip(tallies, pairwise(bounds), strict=True):
                counts = {name: tally.counts for name, tally in found.items()}
                assert counts == count.by(kind, start, end), kind
        for result, name in enumerate(RESULTS):
            # The answer of a shadow was not sent.
            mine = [one for one in count.lines if one.result == result]
            assert reader.total(Query(result=name)) == len(mine)
        assert reader.total(Query()) == len(lines)
        assert decisions.read(reader, Query(), None)["calls"] == len(count.calls)


VIEWS: Sequence[Mapping[str, str]] = (
    {},
    {"location": "Oslo"},
    {"result": "refused"},
    {"event": "shadow"},
    {"plugin": "rooms"},
    {"endpoint": "registration_alias"},
)


@given(
    st.lists(LINES, min_size=1, max_size=40),
    st.one_of(st.none(), st.tuples(st.integers(-100, 3000), st.integers(1, 20_000))),
    st.sampled_from(VIEWS),
)
def test_heading_columns_and_links_agree(
    drawn: list[Line],
    seconds: tuple[int, int] | None,
    view: Mapping[str, str],
) -> None:
    query, start, end = Query(view), 0, decisions.END
    if seconds is not None:
        start = EPOCH + 1000 * seconds[0]
        end = start + 1000 * seconds[1]
        query = query.between(start, end)
    requests = Query(query, event="decision", requests="1")
    with tempfile.TemporaryDirectory() as folder:
        reader, lines = write(Path(folder), drawn)
        found = decisions.read(reader, query, None)
        mine = [one for one in Count(lines, end, UTC).matching(view) if one.result >= 0]
        calls = {one.call for one in mine if one.call and start <= one.call.at < end}
        assert found["calls"] == len(calls)
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
    other = same | {"room": "board", "action": "continue", "event": "decision", "then": ""}
    reader, _ = write(tmp_path, [drawn[0], other, drawn[1]], segment_lines=1)
    (call,), older = reader.calls(Query(), limit=1)
    assert (call.result, older is None) == (RESULTS.index("refused"), False)


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
