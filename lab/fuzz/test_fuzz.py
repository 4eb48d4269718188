"""Short fuzz runs: the server passes, and faulty servers are detected."""

from lab.fuzz.run import Plan, run


def test_the_server_stands_a_short_fuzz() -> None:
    lines: list[str] = []
    result = run(Plan(requests=20_000, seconds=14.0), lines.append)
    assert result.tally.findings == {}, result.tally.examples
    assert result.tally.done > 2_000
    assert {200, 400, 401, 404, 405} <= set(result.tally.statuses)
