from pathlib import Path

import pytest

from tests.experiments.chaos.access.run import (
    run_flood,
    run_password_guessing,
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


async def test_renewed_certificates_cost_no_handshake(tmp_path: Path) -> None:
    seen = await run_renewal(tmp_path, 2)
    assert seen.wrong() == []
    assert len(seen.waits) == 2


async def test_guesses_delay_no_call(tmp_path: Path) -> None:
    seen = await run_password_guessing(tmp_path, 1.5, 10)
    assert seen.wrong() == []
    assert seen.guesses > 1


@pytest.mark.parametrize("kind", ["bodies", "heads", "requests", "handshakes"])
async def test_floods_of_requests_delay_no_call_and_take_no_memory(
    tmp_path: Path, kind: str
) -> None:
    seen = await run_flood(tmp_path, kind, 20, 2.0)
    assert seen.wrong(shortest=0.05) == []
