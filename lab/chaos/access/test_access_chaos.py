from pathlib import Path

import pytest

from lab.chaos.access import floods
from lab.chaos.access.run import (
    run_changes,
    run_credentials,
    run_flood,
    run_newcomers,
    run_password_guessing,
    run_pipelined,
    run_renewal,
    run_slow,
)


async def test_slow_clients_delay_no_call_and_are_cut_off(tmp_path: Path) -> None:
    seen = await run_slow(tmp_path, 60, timeout_s=1.0)
    assert seen.wrong() == []
    assert {kind: len(times) for kind, times in seen.durations.items()} == {
        "half-sent": 20,
        "dripping": 20,
        "silent": 20,
    }


@pytest.mark.parametrize("kind", ["silent", "half-sent", "refused", "silent tls", "hello tls"])
async def test_no_first_call_is_lost_among_strangers(tmp_path: Path, kind: str) -> None:
    seen = await run_newcomers(tmp_path, kind, 1200, 20, 0.0)
    # In the first moment of a flood of handshakes all are new, and luck decides; so it does on a
    # machine that has no time to read the request of a node at once.
    assert seen.lost.total() <= (5 if kind == "hello tls" else 2)
    assert seen.record_problems == []
    assert len(seen.seconds) + seen.lost.total() == 20


async def test_renewed_certificates_cost_no_handshake(tmp_path: Path) -> None:
    seen = await run_renewal(tmp_path, 2)
    assert seen.wrong() == []
    assert len(seen.waits) == 2


async def test_guesses_delay_no_call(tmp_path: Path) -> None:
    seen = await run_password_guessing(tmp_path, 1.5, 10)
    assert seen.wrong() == []
    assert seen.on_record > 1


@pytest.mark.parametrize("kind", ["bodies", "heads", "requests", "unauthorised", "handshakes"])
async def test_floods_of_requests_delay_no_call_and_take_no_memory(
    tmp_path: Path, kind: str
) -> None:
    seen = await run_flood(tmp_path, kind, 20, 2.0)
    assert seen.wrong(shortest=0.05) == []
    assert len(seen.calls.ids) == len(seen.calls.seconds) > 0
    head, row, *_ = floods.table([floods.table_row(seen)]).splitlines()
    assert head.split() == list(floods.COLUMNS)
    assert row.split()[:2] == [kind, "20"]
    assert f"  0 of {len(seen.calls.ids) + len(seen.quiet.ids):,}" in row


async def test_what_is_not_the_right_credentials_is_not_admitted(tmp_path: Path) -> None:
    seen = await run_credentials(tmp_path)
    assert seen.wrong() == []
    assert seen.seen.total() > 1000


async def test_credentials_count_for_one_request(tmp_path: Path) -> None:
    seen = await run_changes(tmp_path, 2, 1)
    assert seen.wrong() == []
    assert seen.seen.total() == 60


async def test_pipelined_requests_are_answered_in_little_memory(tmp_path: Path) -> None:
    seen = await run_pipelined(tmp_path, 200)
    assert seen.wrong() == []
