"""Replies that no generator makes, through the three readers of foreign replies.

The table is of its own: what Infinity does with such a reply, by section 2 of the contract.
"""

import gzip
import json
from collections.abc import Iterator

import pytest

from pexpolicy.conformance.findings import SentRequest
from pexpolicy.conformance.replies import InvalidReplyError, Reply, judge, read
from pexpolicy.models.decision import Reject
from pexpolicy.testing import make_request
from pexpolicy_importers.policy_router import convert_reply

SERVICE, PARTICIPANT, REGISTRATION = (
    "service_configuration",
    "participant_properties",
    "registration_alias",
)
REJECT, OPEN, DROPPED = "reject", "open", "dropped"
"""The reply is a refusal; it is none, and Infinity decides; it must be taken for neither."""
REFUSAL = '{"status":"success","action":"reject","result":{}}'
JSON = "application/json"

NOT_SUCCESS = (
    *('"Success"', '"SUCCESS"', '" success"', '"success "', '"success\\n"', '"success\\u0000"'),
    *("true", "1", "null", '["success"]', '{"a":1}', "0", '""', '"reject"', '"ok"', '"sucess"'),
    '"\\uff53uccess"',
)
NO_ACTIONS = (
    *('"Reject"', '"REJECT"', '" reject"', '"reject "', '["reject"]', '{"action":"reject"}'),
    *("true", "0", '""', '"deny"', "false", "[]", '"reject\\u0000"'),
)
ANY_RESULT = (
    *("null", "[]", '""', "0", "false", '"x"', "1", "[1]", "true", "[{}]", '{"x":1}', '{"":1}'),
    *('{"reject_reason":1}', '{"reject_reason":null}', '{"reject_reason":"\\u0000"}'),
    *('{"message":"m"}', '{"new_alias":"sip:a@b"}', '{"location":"x"}'),
    f'{{"reject_reason":"{"a" * 300}"}}',
)
MORE = (
    *('"x":1,"x":2', '"action":"continue"', '"status":"fail"', '"x":NaN', '"x":-Infinity'),
    *(
        '"x":1e999',
        f'"x":{"9" * 400}',
        '"x":"\\ud800"',
        '"x":"a\x01"',
        '"x":1,',
        f'"x":{"[" * 2000}',
    ),
    *("'x':1", '"x":01', '"x":.5', '"x":tru'),
)
"""What makes JSON of a refusal that parsers read differently, or none."""
SOUND = (
    "",
    " ",
    ',"x":null',
    f',"x":"{"a" * 100_000}"',
    ',"Action":"continue"',
    ',"x":"\\ud83d\\ude00"',
)


def texts() -> Iterator[tuple[str, str]]:
    """Yield bodies, and what they mean."""
    for status in NOT_SUCCESS:
        yield f'{{"status":{status},"action":"reject","result":{{}}}}', REJECT
        yield f'{{"status":{status},"action":"continue","result":{{}}}}', OPEN
    yield '{"status":"succe\\u0073s","action":"rejec\\u0074"}', REJECT
    yield '{"action":"reject"}', REJECT
    for action in NO_ACTIONS:
        yield f'{{"status":"success","action":{action},"result":{{}}}}', DROPPED
        yield f'{{"status":"fail","action":{action},"result":{{}}}}', OPEN
    for result in ANY_RESULT:
        yield f'{{"status":"success","action":"reject","result":{result}}}', REJECT
        yield f'{{"status":"fail","action":"reject","result":{result}}}', REJECT
    for more in MORE:
        yield f"{REFUSAL[:-1]},{more}}}", DROPPED
    for more in SOUND:
        yield f"{REFUSAL[:-1]}{more}}}", REJECT
    yield f"\r\n\t {REFUSAL}\r\n", REJECT
    for odd in (f"[{REFUSAL}]", json.dumps(REFUSAL), "null", "true", REFUSAL * 2, REFUSAL[:-3]):
        yield odd, DROPPED
    for odd in (f"\0{REFUSAL}", f"\ufeff{REFUSAL}", f"{REFUSAL}//", REFUSAL.replace('"', "'")):
        yield odd, DROPPED
    for odd in ("{}", f'{{"response":{REFUSAL}}}', '{"Status":"success","Action":"reject"}'):
        yield odd, OPEN


@pytest.mark.parametrize("endpoint", [SERVICE, PARTICIPANT, REGISTRATION])
@pytest.mark.parametrize(("body", "meant"), [*texts()], ids=repr)
def test_each_reader_takes_an_odd_reply_for_what_it_is(
    endpoint: str, body: str, meant: str
) -> None:
    reply = Reply(0.1, 200, {"Content-Type": JSON}, body.encode())
    assert relayed(endpoint, reply) == meant
    assert judged(endpoint, reply) == meant
    if endpoint != REGISTRATION and not (meant == OPEN and _asks(body)):
        assert imported(endpoint, body) == meant


def _asks(body: str) -> bool:
    """Return True for an action that is none: the import asks the operator about it."""
    return json.loads(body).get("action") not in (None, "continue")


@pytest.mark.parametrize("endpoint", [SERVICE, PARTICIPANT, REGISTRATION])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (REFUSAL.encode("utf-16"), {"Content-Type": JSON}),
        (b"\xef\xbb\xbf" + REFUSAL.encode(), {"Content-Type": JSON}),
        (b'{"status":"success","action":"reject","x":"\xe9"}', {"Content-Type": JSON}),
        (gzip.compress(REFUSAL.encode(), mtime=0), {"Content-Type": JSON}),
        (
            gzip.compress(REFUSAL.encode(), mtime=0),
            {"Content-Type": JSON, "Content-Encoding": "gzip"},
        ),
        (REFUSAL.encode(), {"Content-Type": "text/html"}),
        (REFUSAL.encode(), {"Content-Type": "application/problem+json"}),
        (REFUSAL.encode(), {}),
        (b"<html>login</html>", {"Content-Type": JSON}),
        (b"", {"Content-Type": JSON}),
    ],
)
def test_what_no_node_can_read_is_neither_relayed_nor_sound(
    endpoint: str, body: bytes, headers: dict[str, str]
) -> None:
    reply = Reply(0.1, 200, headers, body)
    assert relayed(endpoint, reply) == DROPPED
    assert judge(SentRequest(endpoint, {}), reply, 5.0).broken


def relayed(endpoint: str, reply: Reply) -> str:
    """What the plugin ``upstream`` makes of a reply."""
    try:
        decision = read(endpoint, make_request(endpoint), reply).decision
    except InvalidReplyError:
        return DROPPED
    return REJECT if isinstance(decision, Reject) else OPEN


def judged(endpoint: str, reply: Reply) -> str:
    """What the conformance test makes of a reply."""
    result = judge(SentRequest(endpoint, {}), reply, 5.0)
    if result.reading is None or result.reading.disposition.value == "dropped":
        return DROPPED if result.broken else "dropped without a word"
    return REJECT if result.reading.disposition.value == "reject" else OPEN


def imported(endpoint: str, body: str) -> str:
    """What the import of a router's rules makes of a stored reply."""
    try:
        then = convert_reply(body, endpoint, [])
    except ValueError:
        return DROPPED
    return REJECT if then["action"] == "reject" else OPEN
