"""A short fuzz run."""

from lab.fuzz.run import run
from tests.support.waiting import HANG_S


def test_the_server_stands_a_short_fuzz() -> None:
    tally = run(8_000, seconds=HANG_S, timeout_s=HANG_S)
    assert tally.findings == {}, tally.examples
    assert {200, 400, 401, 404, 405} <= set(tally.statuses)
    assert tally.summary(8_000)[-1] == "found nothing"
