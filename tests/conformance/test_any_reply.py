"""Any reply of a server is judged, and the conformance test continues."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.conformance.findings import Finding, SentRequest
from pexpolicy.conformance.http_client import Reply
from pexpolicy.conformance.replies import judge
from pexpolicy.conformance.runner import TRACES
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of

QUERY = {"width": "40", "height": "40", "limit": "10", "call_direction": "dial_out"}
FIELDS = sorted({name for model in SERVICE_TYPES.values() for name in contract_of(model).names})
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner)
)
results = anything | st.dictionaries(
    st.sampled_from([*FIELDS, "location", "username", "password", "new_alias", "reject_reason"]),
    anything | st.sampled_from([*SERVICE_TYPES, "1234", "sip:a@b"]),
)
entries = st.lists(
    st.dictionaries(st.sampled_from(["alias", "description", "username", "x"]), scalars)
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["success", "fail"]) | scalars,
        "action": st.sampled_from(["continue", "reject", "redirect"]) | anything,
        "result": results | entries,
        "ignore_local": scalars,
    },
)


def judged(endpoint: str, body: bytes, status: int = 200, kind: str = "json") -> list[Finding]:
    media_type = {"json": "application/json", "jpeg": "image/jpeg"}[kind]
    reply = Reply(0.1, status, {"Content-Type": media_type}, body)
    return judge(SentRequest(endpoint, QUERY, traces=TRACES["marked"]), reply, 5.0).findings


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@given(body=envelopes | anything, status=st.sampled_from([200, 200, 200, 404, 500]))
def test_any_json_is_judged(endpoint: str, body: Any, status: int) -> None:
    for finding in judged(endpoint, json.dumps(body).encode(), status):
        assert finding.text


@pytest.mark.parametrize("kind", ["json", "jpeg"])
@given(body=st.binary(max_size=200))
def test_any_bytes_are_judged(kind: str, body: bytes) -> None:
    assert judged("participant_avatar", body, kind=kind)


@pytest.mark.parametrize("depth", [200, 900, 5000, 100_000])
def test_any_depth_is_judged(depth: int) -> None:
    nested = b'{"status": "success", "result": ' + b"[" * depth + b"]" * depth + b"}"
    assert judged("service_configuration", nested)
