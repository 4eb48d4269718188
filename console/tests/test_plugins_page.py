"""What the pages of plugins count."""

import time
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy_console.index.reader import Hit, IndexReader, quantile
from pexpolicy_console.index.writer import (
    CALL,
    DIFFERENCE,
    STEP,
    IndexWriter,
    bucket_bounds,
    bucket_of,
)
from pexpolicy_console.pages import plugins
from pexpolicy_console.pages.chart import DAY_MS
from pexpolicy_console.server_client import Document
from tests.support.audit_lines import append, line

ROOMS, RULES = (
    Document(name=name, mode="decide", hooks=["service_configuration", "lifespan"])
    for name in ("rooms", "rules")
)


def test_the_way_of_calls_has_the_shares_of_each_plugin() -> None:
    quick, slow = bucket_of(900), bucket_of(90_000)
    steps = {
        ("service_configuration/rules", "decided", quick): 10,
        ("service_configuration/rules", "abstained", quick): 70,
        ("service_configuration/rules", "timed_out", slow): 15,
        ("service_configuration/rules", "skipped", 0): 5,
        ("service_configuration/rooms", "decided", quick): 45,
        ("service_configuration/rooms", "abstained", quick): 45,
        ("media_location/rules", "decided", quick): 7,
    }
    rows = [(0, STEP, *key, count) for key, count in steps.items()]
    counted = [(0, CALL, "service_configuration", "continue", quick, 100)]
    counted += [*rows, (0, DIFFERENCE, "media_location/shadow", "", 0, 3)]
    asked, found = plugins.tallies(counted)
    assert found["", "shadow"].differences == 3
    rules = found["", "rules"]
    assert (rules.asked, rules.of("decided"), rules.failed, rules.of("skipped")) == (102, 17, 15, 5)
    (only,) = plugins.chains([RULES, ROOMS], asked, found)
    endpoint, calls, (first, second), left = only
    assert (endpoint, calls, left) == ("service_configuration", 100, 45)
    assert (first.thickness, first.decided, first.failed) == (100, 10, 15)
    assert (second.thickness, second.decided, second.failed) == (90, 50, 0)


def test_an_error_is_found_where_its_call_began_before_the_period(tmp_path: Path) -> None:
    audit, began = tmp_path / "audit.jsonl", int(time.time() * 1000) - 14 * DAY_MS - 60_000
    same = {"request": {"local_alias": "sip:lab@example.com"}}
    failed = {"steps": [{"plugin": "rooms", "outcome": "failed", "detail": "late", "ms": 1.0}]}
    append(audit, [line(0, began, **same), line(1, began + 100_000, **same, **failed)])
    writer = IndexWriter(tmp_path / "index", audit)
    while writer.step():
        pass
    writer.close()
    (found,) = plugins.failures(IndexReader(tmp_path / "index", audit), "rooms")
    assert found.at == began + 100_000


def test_errors_are_grouped_the_newest_first() -> None:
    def hit(at: int, detail: str) -> Hit:
        steps = [
            {"plugin": "rooms", "outcome": "failed", "detail": "another plugin"},
            {"plugin": "rules", "outcome": "failed", "detail": detail},
        ]
        return Hit(at, {"decision_id": str(at), "steps": steps}, at * 1000)

    found = plugins.errors_of([hit(9, "no"), hit(8, "late"), hit(5, "no")], "rules")
    assert [(one["text"], one["count"], one["first"], one["last"]) for one in found] == [
        ("no", 2, 5, 9),
        ("late", 1, 8, 8),
    ]


@given(st.dictionaries(st.integers(8, 120), st.integers(0, 50)), st.sampled_from((0.5, 0.99)))
def test_a_quantile_is_within_the_bucket_of_its_rank(counts: dict[int, int], share: float) -> None:
    found = quantile(Counter(counts), share)
    assert (found is None) == (not sum(counts.values()))
    if found is not None:
        below = sum(n for one, n in counts.items() if bucket_bounds(one)[0] / 1000 < found)
        above = sum(n for one, n in counts.items() if bucket_bounds(one)[1] / 1000 < found)
        assert above < share * sum(counts.values()) <= below
