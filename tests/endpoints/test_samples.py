"""Recorded requests against the server as it is shipped, started by its command line."""

import json
from typing import Any

import pytest

from tests.support import live_server, secret_canaries
from tests.support.oracle import judge

SAMPLES = [
    json.loads(line)
    for line in (live_server.ROOT / "tests/data/samples.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_a_recorded_request_gets_an_allowed_reply_and_one_line(
    running_server: live_server.Running, sample: dict[str, Any]
) -> None:
    before = len(running_server.lines())
    secrets = secret_canaries.query(sample["endpoint"])
    reply = running_server.ask(f"{sample['path']}?{sample['query']}&{secrets}")
    content_type = reply.headers["content-type"]
    broken = judge(sample["endpoint"], sample["query"], reply.status, content_type, reply.body)
    assert not broken
    (line,) = running_server.lines()[before:]
    assert line["endpoint"] == sample["endpoint"]
    assert line["status"] == reply.status
    assert line["decision_id"] == reply.json["decision_id"]


def test_the_recorded_requests_reach_every_endpoint() -> None:
    assert {sample["endpoint"] for sample in SAMPLES} == {
        "service_configuration",
        "participant_properties",
        "media_location",
        "participant_avatar",
        "directory_information",
        "registration_alias",
    }
