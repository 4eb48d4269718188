"""Visitors, and what the log says about them."""

import pytest

from acme_platform.visitors import Visitors
from pexpolicy import ParticipantProperties, ParticipantPropertiesRequest
from pexpolicy.testing import decide_sync, make_request

SETTINGS = {"domain": "Acme.example"}


def joining(alias: str, name: str) -> ParticipantPropertiesRequest:
    return make_request("participant_properties", remote_alias=alias, remote_display_name=name)


def test_a_visitor_is_marked_and_logged_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "acme_platform")
    outcome = decide_sync(
        (Visitors, SETTINGS), joining("eve@elsewhere.example", "Eve"), raise_exceptions=True
    )
    assert outcome.decision == ParticipantProperties(remote_display_name="Eve (visitor)")
    (record,) = caplog.records
    assert record.getMessage() == "a visitor domain='elsewhere.example'"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("alice@acme.example", "Alice"),
        ("eve@elsewhere.example", "Eve (visitor)"),
        ("eve@elsewhere.example", ""),
    ],
)
def test_all_others_are_left_to_the_next_plugin(alias: str, name: str) -> None:
    outcome = decide_sync((Visitors, SETTINGS), joining(alias, name), raise_exceptions=True)
    assert [step.outcome for step in outcome.steps] == ["abstained"]
