"""The banner, next to a plugin that chooses the room."""

from typing import Any

import pytest

from acme_platform.banner import Banner
from pexpolicy import UNSET, Conference, Plugin, Reject, ServiceConfigurationRequest
from pexpolicy.testing import Outcome, decide_sync, make_request

ROOM = Conference(name="Board", service_tag="board", description="Third floor", pin="471100")


class Rooms(Plugin):
    """Chooses the room, or rejects."""

    async def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> Conference | Reject:
        return ROOM if request.local_alias.user == "board" else Reject(reason="no such room")


def called(user: str, host: str) -> Outcome:
    request = make_request(
        "service_configuration",
        local_alias=f"{user}@acme.example",
        remote_alias=f"dana@{host}",
    )
    return decide_sync([Rooms, (Banner, {"theme": "Acme"})], request)


@pytest.mark.parametrize(
    ("host", "changes"),
    [
        ("acme.example", {"ivr_theme_name": (UNSET, "Acme")}),
        (
            "elsewhere.example",
            {"description": ("Third floor", UNSET), "ivr_theme_name": (UNSET, "Acme")},
        ),
    ],
)
def test_every_room_has_the_banner(host: str, changes: dict[str, Any]) -> None:
    outcome = called("board", host)
    assert outcome.decided_by == "rooms"
    assert outcome.steps[1].changes == changes
    assert outcome.decision.set_fields()["pin"] == "471100"


def test_what_is_no_room_stays_as_it_is() -> None:
    outcome = called("lobby", "acme.example")
    assert outcome.decision == Reject(reason="no such room")
    assert [step.outcome for step in outcome.steps] == ["decided", "abstained"]
