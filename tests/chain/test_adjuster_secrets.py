"""Secrets of a decision stay out of the log and the audit when its adjuster fails."""

from typing import Any

import pytest

from pexpolicy import (
    UNSET,
    Conference,
    Continue,
    Credentials,
    Decision,
    MediaLocation,
    Request,
    hookimpl,
)
from pexpolicy.chain.fold import Draft
from pexpolicy.fields import AutomaticParticipant
from pexpolicy.models.request import annotations_of, secrets_of
from pexpolicy.testing import capture_audit, decide_sync, make_request

SECRET = "canary-4711"
REQUEST = make_request("registration_alias")


class Devices:
    @hookimpl
    async def registration_alias(self) -> Credentials:
        return Credentials(username="desk", password=SECRET)


class Tells:
    """Repeats the password in its exception."""

    @hookimpl
    async def adjust_registration_alias(self, decision: Any) -> None:
        raise LookupError(f"no device has {decision.password}")


class TellsInThread:
    @hookimpl
    def adjust_registration_alias(self, decision: Any) -> None:
        raise LookupError(f"no device has {decision.password}")


@pytest.mark.parametrize("adjuster", [Tells, TellsInThread])
def test_a_secret_of_the_decision_is_removed_from_an_exception(
    adjuster: type, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_audit() as lines:
        outcome = decide_sync([Devices, adjuster], REQUEST)
    assert "LookupError: no device has ***" in outcome.steps[1].detail
    assert SECRET not in f"{lines}{caplog.text}"


def test_secrets_of_each_kind_are_found() -> None:
    called = AutomaticParticipant(
        local_alias="a", remote_alias="b", protocol="sip", role="guest", dtmf_sequence="98765"
    )
    room = Conference(name="R", service_tag="", pin="1234", automatic_participants=[called])
    found = Draft(make_request("service_configuration"), room).secrets()
    assert sorted(found) == ["1234", "98765"]
    request = make_request("media_location")
    for decision in (None, Continue(), MediaLocation(location="Oslo")):
        assert Draft(request, decision).secrets() == secrets_of(request)


class Rooms:
    @hookimpl
    async def service_configuration(self) -> Conference:
        return Conference(name="R", service_tag="")


class Annotates:
    """Adds a field that the decision may lack."""

    @hookimpl
    async def adjust_service_configuration(
        self, request: Request, decision: Conference
    ) -> Decision | None:
        request.annotate(name=decision.name, theme=decision.ivr_theme_name)
        return None


def test_an_unset_field_is_no_annotation() -> None:
    with capture_audit() as lines:
        outcome = decide_sync([Rooms, Annotates], make_request("service_configuration"))
    assert outcome.steps[1].outcome == "abstained"
    assert lines[0]["annotations"] == {"annotates": {"name": "R"}}
    request = make_request("service_configuration")
    request.annotate(theme=UNSET)
    annotations = annotations_of(request)
    assert annotations is not None
    assert annotations.by_plugin == {}


def test_a_request_that_is_asked_again_has_no_old_annotations() -> None:
    request = make_request("service_configuration")
    with capture_audit() as lines:
        decide_sync([Rooms, Annotates], request)
        decide_sync(Rooms, request)
    assert "annotations" not in lines[1]
