"""The call flows of the conformance test: requests of a node in their order."""

from __future__ import annotations

from pexpolicy.conformance import request_templates
from pexpolicy.conformance.edge_cases import ODDITIES
from pexpolicy.conformance.flow_steps import AGAIN, Flow, Placeholder, Query, Step
from pexpolicy.conformance.request_templates import H323, SIP, WEB

SERVICE, PARTICIPANT, LOCATION = (
    "service_configuration",
    "participant_properties",
    "media_location",
)
AVATAR, DIRECTORY, REGISTRATION = (
    "participant_avatar",
    "directory_information",
    "registration_alias",
)
BREAKOUT_UUID = "4a6f2f3e-5d0f-4c1e-9a57-0d8f6c2b7e11"
MEDIA: Query = {"protocol": "webrtc", "preauthenticated_role": "chair"}
CONTROL: Query = {"participant_type": "api", "preauthenticated_role": "chair"}


def service(name: str, query: Query, same_as: str = "") -> Step:
    """Return a service configuration step."""
    return Step(name=name, endpoint=SERVICE, query=query, same_as=same_as)


def participant(name: str, query: Query, same_as: str = "") -> Step:
    """Return a participant properties step."""
    return Step(name=name, endpoint=PARTICIPANT, query=query, same_as=same_as)


def location(name: str, query: Query, same_as: str = "") -> Step:
    """Return a media location step."""
    return Step(name=name, endpoint=LOCATION, query=query, same_as=same_as)


def avatar(
    name: str, query: Query, same_as: str = "", alias: str | Placeholder = Placeholder.CALLER
) -> Step:
    """Return an avatar step."""
    return Step(name=name, endpoint=AVATAR, query=query, same_as=same_as, alias=alias)


def search(text: str, limit: int = 10, name: str = "", same_as: str = "") -> Step:
    """Return a directory search step."""
    query = request_templates.directory("v39", text, limit)
    return Step(name=name or f"search {text!r}", endpoint=DIRECTORY, query=query, same_as=same_as)


def register(
    name: str,
    query: Query,
    alias: str | Placeholder = Placeholder.CALLER,
    same_as: str = "",
    because: str = AGAIN,
) -> Step:
    """Return a device registration step."""
    return Step(
        name=name, endpoint=REGISTRATION, query=query, alias=alias, same_as=same_as, because=because
    )


def _web_join(version: str) -> tuple[Step, ...]:
    joined = request_templates.service(version, WEB)
    return (
        service("service", joined),
        service("service again, after the PIN", joined, same_as="service"),
        participant("control", request_templates.participant(version, WEB, CONTROL)),
        participant("media", request_templates.participant(version, WEB, MEDIA)),
        participant(
            "media again", request_templates.participant(version, WEB, MEDIA), same_as="media"
        ),
        location("location", request_templates.location(version, WEB, {"protocol": "webrtc"})),
        avatar(
            "avatar 100x100",
            request_templates.avatar(version, WEB, (100, 100), {"protocol": "webrtc"}),
        ),
    )


def _sip(version: str) -> tuple[Step, ...]:
    """Return the steps of a SIP call before the PIN, when the role is not known."""
    asked = request_templates.location(version, SIP)
    return (
        service("service", request_templates.service(version, SIP)),
        participant("before the PIN", request_templates.participant(version, SIP)),
        location("location", asked),
        location("location again", asked, same_as="location"),
    )


def _old(version: str) -> tuple[Step, ...]:
    """Return the steps of a version without participant properties."""
    asserted: Query = {"P-Asserted-Identity": "<sip:alice@example.com>"}
    return (
        service("service", request_templates.service(version, SIP, asserted)),
        location("location", request_templates.location(version, SIP, asserted)),
        avatar("avatar 40x40", request_templates.avatar(version, SIP, (40, 40))),
        Step(name="search", endpoint=DIRECTORY, query=request_templates.directory(version, "ali")),
        register(
            "registration", request_templates.registration(version, "webrtc", '"credentials"')
        ),
    )


_H323 = (
    service("ARQ", request_templates.service("v39", H323, {"trigger": "arq"})),
    service("SETUP", request_templates.service("v39", H323)),
    participant("before the PIN", request_templates.participant("v39", H323)),
    location("location", request_templates.location("v39", H323)),
    avatar(
        "avatar 64x48",
        request_templates.avatar("v39", H323, (64, 48)),
        alias="h323%3A%2B4712345678",
    ),
)

_RUNNING: Query = {
    "call_direction": "dial_out",
    "trigger": "unspecified",
    "remote_alias": "sip:carol@example.com",
    "remote_display_name": "",
    "service_name": Placeholder.SERVICE_NAME,
    "unique_service_name": Placeholder.SERVICE_NAME,
    "service_tag": Placeholder.SERVICE_TAG,
}
_DIAL_OUT = (
    service("the running service", request_templates.service("v39", WEB)),
    service(
        "before dialing out",
        request_templates.service("v39", SIP, {**_RUNNING, "local_alias": Placeholder.ALIAS}),
    ),
    participant(
        "the called participant",
        request_templates.participant("v39", SIP, {**_RUNNING, "local_alias": Placeholder.ALIAS}),
    ),
    location(
        "location",
        request_templates.location("v39", SIP, {**_RUNNING, "local_alias": Placeholder.ALIAS}),
    ),
)

_NON_DIAL = tuple(
    service(
        f"{trigger.upper()}, {what}",
        request_templates.service(
            "v39", caller, {"call_direction": "non_dial", "trigger": trigger, **alias}
        ),
    )
    for trigger, what, caller, alias in (
        ("options", "a known alias", SIP, {}),
        ("options", "no alias", SIP, {"local_alias": ""}),
        (
            "options",
            "a scanner",
            SIP,
            {"local_alias": "sip:100@192.0.2.7", "remote_alias": "sip:100@1.1.1.1"},
        ),
        ("subscribe", "a known alias", SIP, {}),
        ("lrq", "a number", H323, {"local_alias": "h323:100"}),
    )
)

_TRANSFERRED: Query = {"local_alias": "lobby", "previous_service_name": Placeholder.PREVIOUS_NAME}
_TRANSFER = (
    service("the first service", request_templates.service("v39", WEB)),
    service(
        "the second service",
        request_templates.service(
            "v39", WEB, {"local_alias": "lobby", "previous_service_name": Placeholder.SERVICE_NAME}
        ),
    ),
    participant(
        "the participant there",
        request_templates.participant("v39", WEB, {**MEDIA, **_TRANSFERRED}),
    ),
    location("location", request_templates.location("v39", WEB, _TRANSFERRED)),
    service(
        "back to the first",
        request_templates.service("v39", WEB, {"previous_service_name": Placeholder.SERVICE_NAME}),
    ),
)


def breakout_room(main: Query, name: str, uuid: str) -> Query:
    """Return the service request of a breakout room: its alias is that of the main room."""
    unique = f"{name}_breakout_{uuid}"
    return {**main, "service_name": unique, "unique_service_name": unique, "breakout_uuid": uuid}


_BREAKOUT = (
    service("the main room", request_templates.service("v39", WEB)),
    service(
        "a breakout room",
        breakout_room(request_templates.service("v39", WEB), "meet.bob", BREAKOUT_UUID),
    ),
    participant(
        "the participant there",
        request_templates.participant("v39", WEB, {**MEDIA, "breakout_uuid": BREAKOUT_UUID}),
    ),
)

_DIRECTORY = (
    search(""),
    search("a"),
    search("al"),
    search("ali"),
    search("ali", name="search 'ali' again", same_as="search 'ali'"),
    search("a", limit=1, name="search 'a', one entry at most"),
    avatar("avatar of an entry", request_templates.directory_avatar("v39", (40, 40))),
    avatar(
        "avatar again",
        request_templates.directory_avatar("v39", (40, 40)),
        same_as="avatar of an entry",
    ),
)

_CREDENTIALS = request_templates.registration("v39", "webrtc", "credentials")
_REGISTRATION = (
    register("web app", _CREDENTIALS),
    register("web app again", _CREDENTIALS, same_as="web app"),
    register(
        "quoted auth_type",
        request_templates.registration("v39", "webrtc", '"credentials"'),
        same_as="web app",
        because="quotes around auth_type have no meaning",
    ),
    register(
        "SIP device",
        request_templates.registration("v39", "sip", "credentials"),
        "sip%3Aalice%40example.com",
    ),
    register(
        "H.323 device",
        request_templates.registration("v39", "h323", "credentials"),
        "h323%3A%2B4712345678",
    ),
    register("single sign-on", request_templates.registration("v39", "webrtc", "sso")),
)

FLOWS: tuple[Flow, ...] = (
    Flow("web join, v39", _web_join("v39")),
    Flow("web join, v38", _web_join("v38")),
    Flow("SIP before the PIN, v39", _sip("v39")),
    Flow("SIP before the PIN, v35", _sip("v35")),
    Flow("old node, v21", _old("v21")),
    Flow("old node, v16", _old("v16")),
    Flow("H.323 call", _H323),
    Flow("dial-out", _DIAL_OUT),
    Flow("requests without a call", _NON_DIAL),
    Flow("transfer", _TRANSFER),
    Flow("breakout", _BREAKOUT),
    Flow("directory", _DIRECTORY),
    Flow("registration", _REGISTRATION),
    *ODDITIES,
)
"""All flows, in the order in which they are sent."""
