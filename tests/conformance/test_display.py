"""What a terminal shows, and how slow replies are told apart by a clock."""

import pytest

from pexpolicy.cli.conformance import parts
from pexpolicy.conformance.findings import Level, SentRequest, Topic, violation, warning
from pexpolicy.conformance.http_client import Reply
from pexpolicy.conformance.replies import NotJSONError, judge, strict_json
from pexpolicy.conformance.runner import StepResult
from pexpolicy.models.rules import Confidence
from pexpolicy.testing.report import print_parts


def test_the_same_finding_is_shown_once_with_its_number_of_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = violation(Topic.JSON, "it is empty", Confidence.DOCUMENTED)
    late = warning(Topic.TIME, "rather late")
    place = ("service_configuration", "/x?y=[z]", 200, 0.0042)
    steps = [
        StepResult("web join", "service", *place, (late, empty)),
        StepResult("web join", "again", *place, (empty,)),
    ]
    print_parts(parts("http://127.0.0.1", steps))
    text = capsys.readouterr().out
    assert text.count("it is empty") == 1
    assert "2 times" in text
    assert "/x?y=[z]" in text
    assert "2 contract findings, 1 warning finding;" in text
    assert text.index("it is empty") < text.index("rather late")


@pytest.mark.parametrize(
    ("seconds", "levels"), [(1.0, set()), (3.0, {Level.WARNING}), (6.0, {Level.CONTRACT})]
)
def test_a_slow_reply_is_doubtful_and_a_late_one_is_wrong(
    seconds: float, levels: set[Level]
) -> None:
    reply = Reply(seconds, 200, {"Content-Type": "application/json"}, b'{"status": "success"}')
    found = judge(SentRequest("service_configuration", {}), reply, 5.0).findings
    assert {finding.level for finding in found} == levels


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": 1}\n', {"a": 1}),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b"[1.5, -0, 1e3]", [1.5, 0, 1000.0]),
        (b"12345678901234567890", 12345678901234567890),
        (b"null", None),
    ],
)
def test_sound_json_is_read(body: bytes, value: object) -> None:
    assert strict_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        *(b"1" * 400, b"1" * 5000, b'{"a": {"b": 1, "b": 2}}', b"[NaN]", b"\x00", b"{"),
        b"[" * 1500 + b"]" * 1500,
    ],
)
def test_json_that_readers_take_for_different_things_is_refused(body: bytes) -> None:
    with pytest.raises(NotJSONError):
        strict_json(body)
