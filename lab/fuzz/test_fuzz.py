"""A short fuzz run."""

from lab.fuzz.run import run


def test_the_server_stands_a_short_fuzz() -> None:
    tally = run(20_000, seconds=14.0)
    assert tally.findings == {}, tally.examples
    assert tally.done > 2_000
    assert {200, 400, 401, 404, 405} <= set(tally.statuses)
    assert tally.summary(20_000)[-1] == "found nothing"
