"""Annotations, metrics and observers of the billing plugin."""

import json
from pathlib import Path

import pytest

from acme_platform.billing import CALLS, Billing
from pexpolicy.testing import capture_audit, decide, make_request


@pytest.mark.parametrize(
    ("alias", "centre"), [("sip:Board@acme.example", "4711"), ("lobby@acme.example", None)]
)
async def test_calls_have_their_cost_centre(alias: str, centre: str | None, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    settings = {"cost_centres": {"board@ACME.example": "4711"}, "ledger": str(ledger)}
    request = make_request("service_configuration", local_alias=alias, remote_display_name="Alice")
    before = CALLS.value("billing", cost_centre="4711")
    with capture_audit() as audit:
        await decide({"billing": (Billing, settings)}, request)
    (line,) = audit
    expected = {"billing": {"cost_centre": centre, "caller": "Alice"}} if centre else None
    assert line.get("annotations") == expected
    assert CALLS.value("billing", cost_centre="4711") - before == (centre is not None)
    billed = [json.loads(text) for text in ledger.read_text().splitlines()]
    assert [entry["decision_id"] for entry in billed] == [line["decision_id"]] * bool(centre)
