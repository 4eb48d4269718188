"""The call flows of the conformance test: requests of a node in their order."""

from __future__ import annotations

from urllib.parse import quote

from pexpolicy.conformance.flow_steps import DecodingMarker, Flow, Placeholder, Query, Step
from pexpolicy.conformance.request_templates import (
    H323,
    SIP,
    WEB,
    avatar,
    directory_avatar,
    location,
    participant,
    registration,
    search,
    service,
)

BREAKOUT_UUID = "4a6f2f3e-5d0f-4c1e-9a57-0d8f6c2b7e11"
CHAIR: Query = {"protocol": "webrtc", "preauthenticated_role": "chair"}
CONTROL: Query = {"participant_type": "api", "preauthenticated_role": "chair"}
MEDIA: Query = {"protocol": "webrtc"}
H323_ALIAS = "h323%3A%2B4712345678"


def _web_join(version: str) -> tuple[Step, ...]:
    return (
        service("service", WEB, version=version),
        service("service again, after the PIN", WEB, version=version, same_as="service"),
        participant("control", WEB, CONTROL, version),
        participant("media", WEB, CHAIR, version),
        participant("media again", WEB, CHAIR, version, same_as="media"),
        location("location", WEB, MEDIA, version),
        avatar("avatar 100x100", WEB, (100, 100), MEDIA, version=version),
    )


def _sip(version: str) -> tuple[Step, ...]:
    """Return the steps of a SIP call before the PIN, when the role is not known."""
    return (
        service("service", SIP, version=version),
        participant("before the PIN", SIP, version=version),
        location("location", SIP, version=version),
        location("location again", SIP, version=version, same_as="location"),
    )


def _old(version: str) -> tuple[Step, ...]:
    """Return the steps of a version without participant properties."""
    asserted: Query = {"P-Asserted-Identity": "<sip:alice@example.com>"}
    return (
        service("service", SIP, asserted, version),
        location("location", SIP, asserted, version),
        avatar("avatar 40x40", SIP, (40, 40), version=version),
        search("ali", version=version, name="search"),
        registration("registration", "webrtc", '"credentials"', version),
    )


_H323 = (
    service("ARQ", H323, {"trigger": "arq"}),
    service("SETUP", H323),
    participant("before the PIN", H323),
    location("location", H323),
    avatar("avatar 64x48", H323, (64, 48), alias=H323_ALIAS),
)

_RUNNING: Query = {
    "call_direction": "dial_out",
    "trigger": "unspecified",
    "remote_alias": "sip:carol@example.com",
    "remote_display_name": "",
    "service_name": Placeholder.SERVICE_NAME,
    "unique_service_name": Placeholder.SERVICE_NAME,
    "service_tag": Placeholder.SERVICE_TAG,
    "local_alias": Placeholder.ALIAS,
}
_DIAL_OUT = (
    service("the running service", WEB),
    service("before dialing out", SIP, _RUNNING),
    participant("the called participant", SIP, _RUNNING),
    location("location", SIP, _RUNNING),
)

_SCANNER: Query = {"local_alias": "sip:100@192.0.2.7", "remote_alias": "sip:100@1.1.1.1"}
_CALLERS: tuple[tuple[str, str, Query, Query], ...] = (
    ("options", "a known alias", SIP, {}),
    ("options", "no alias", SIP, {"local_alias": ""}),
    ("options", "a scanner", SIP, _SCANNER),
    ("subscribe", "a known alias", SIP, {}),
    ("lrq", "a number", H323, {"local_alias": "h323:100"}),
)
_NON_DIAL = tuple(
    service(
        f"{trigger.upper()}, {what}",
        caller,
        {"call_direction": "non_dial", "trigger": trigger, **alias},
    )
    for trigger, what, caller, alias in _CALLERS
)

_LEFT: Query = {"previous_service_name": Placeholder.SERVICE_NAME}
_TRANSFERRED: Query = {"local_alias": "lobby", "previous_service_name": Placeholder.PREVIOUS_NAME}
_TRANSFER = (
    service("the first service", WEB),
    service("the second service", WEB, {"local_alias": "lobby", **_LEFT}),
    participant("the participant there", WEB, {**CHAIR, **_TRANSFERRED}),
    location("location", WEB, _TRANSFERRED),
    service("back to the first", WEB, _LEFT),
)


def breakout_room(main: Query, name: str, uuid: str) -> Query:
    """Return the service request of a breakout room: its alias is that of the main room."""
    unique = f"{name}_breakout_{uuid}"
    return {**main, "service_name": unique, "unique_service_name": unique, "breakout_uuid": uuid}


_BREAKOUT = (
    service("the main room", WEB),
    service("a breakout room", WEB, breakout_room({}, "meet.bob", BREAKOUT_UUID)),
    participant("the participant there", WEB, {**CHAIR, "breakout_uuid": BREAKOUT_UUID}),
)

_DIRECTORY = (
    search(""),
    search("a"),
    search("al"),
    search("ali"),
    search("ali", name="search 'ali' again", same_as="search 'ali'"),
    search("a", limit=1, name="search 'a', one entry at most"),
    directory_avatar("avatar of an entry", (40, 40)),
    directory_avatar("avatar again", (40, 40), same_as="avatar of an entry"),
)

_QUOTES = "quotes around auth_type have no meaning"
_REGISTRATION = (
    registration("web app", "webrtc", "credentials"),
    registration("web app again", "webrtc", "credentials", same_as="web app"),
    registration("quoted auth_type", "webrtc", '"credentials"', same_as="web app", because=_QUOTES),
    registration("SIP device", "sip", "credentials", alias="sip%3Aalice%40example.com"),
    registration("H.323 device", "h323", "credentials", alias=H323_ALIAS),
    registration("single sign-on", "webrtc", "sso"),
)

# Unusual requests, all of which a node can send.

MARKED = "sip:zq7k%23x+1@example.com"
"""An alias with a percent sign and a plus, which a second decoding would change."""
TWICE, NEVER = "it was decoded twice", "it was not decoded"
LATIN_1, OTHER = "UTF-8 was read as Latin-1", "UTF-8 was read as something else"
MARKED_TRACES = (
    DecodingMarker("zq7k%2523x", NEVER),
    DecodingMarker("zq7k#x", TWICE),
    DecodingMarker("zq7k%23x 1", "its plus became a blank"),
    DecodingMarker("zq7k%23x%2b1", NEVER),
    DecodingMarker("zq7k%23x+1%40", NEVER),
)
NAME_TRACES = (
    DecodingMarker("zq7k+zo", "a plus in a query is a blank"),
    DecodingMarker("zq7k%20zo", NEVER),
    DecodingMarker("zo%c3%ab", NEVER),
    DecodingMarker("zoã«", LATIN_1),
    DecodingMarker("zo\N{REPLACEMENT CHARACTER}", OTHER),
)
UTF8_TRACES = (
    DecodingMarker("zq7km%c3%b8te", NEVER),
    DecodingMarker("zq7km\u00e3\u00b8te", LATIN_1),
    DecodingMarker("zq7km\N{REPLACEMENT CHARACTER}", OTHER),
)

_NEW_YORK: Query = {"location": "New York 2"}
_NAME: Query = {"remote_display_name": "zq7k Zoë Ångström"}
_ATTRIBUTES: Query = {
    "idp_attribute_groups": ("analysts", "managers"),
    "idp_attribute_Job Title": "Agent",
    "idp_attribute_clear-ance": "SECRET",
}
_LONG: Query = {
    "idp_attribute_memberOf": tuple(
        f"cn=group-{number:04d},ou=groups,dc=example,dc=com" for number in range(260)
    )
}
_ENCODINGS = (
    service("escaped alias", SIP, {"local_alias": MARKED}, traces=MARKED_TRACES),
    service("alias in UTF-8", WEB, {"local_alias": "zq7kmøte"}, traces=UTF8_TRACES),
    service("blanks as +", WEB, _NEW_YORK),
    service(
        *("blanks as %20", WEB, _NEW_YORK),
        escape=quote,
        same_as="blanks as +",
        because="+ and %20 are both a blank",
    ),
    participant("name in UTF-8", WEB, {**CHAIR, **_NAME}, traces=NAME_TRACES),
    participant("repeated attributes", WEB, {**CHAIR, **_ATTRIBUTES}),
    participant("a query of 20 KB", WEB, {**CHAIR, **_LONG}, strain=True),
)

_PATHS: tuple[tuple[str, str, tuple[DecodingMarker, ...]], ...] = (
    ("@ as %40", "zq7k%2523x+1%40example.com", MARKED_TRACES),
    ("scheme and parameters", "sip:alice@example.com:5060;transport=tls", ()),
    ("a blank and UTF-8", "zq7km%C3%B8te%20rom", UTF8_TRACES),
)
_ALIASES = (
    *(
        registration(
            f"registration_alias: {name}", "sip", "credentials", alias=alias, traces=traces
        )
        for name, alias, traces in _PATHS
    ),
    *(
        avatar(f"participant_avatar: {name}", SIP, (48, 64), alias=alias, traces=traces)
        for name, alias, traces in _PATHS
    ),
)

_EMPTY: Query = {
    name: value if name in ("call_direction", "node_ip", "version_id") else ""
    for name, value in participant("", WEB).query.items()
}
_FEW: Query = {"call_direction": "dial_in", "node_ip": "10.44.155.21"}
_FUTURE: Query = {"future~setting": "1", "Call-ID": "x", "future_list": ("a", "b")}
_SKYPE: Query = {
    "remote_address": "2001:db8::5",
    "ms-subnet": '["10.47.5.0"]',
    "p_Asserted-Identity": '["\\"Alice\\" <sip:alice@example.com>"]',
}
_VALUES = (
    service("plain", WEB),
    service(
        *("unknown parameters", WEB, _FUTURE),
        same_as="plain",
        because="almost every release adds parameters, which must be ignored",
    ),
    service("no alias, no vendor", WEB, {"local_alias": None, "vendor": None}),
    Step(name="node and direction only", endpoint="service_configuration", query=_FEW),
    service(
        *("parameters that should be numbers and are text", WEB),
        {"bandwidth": "unknown", "remote_port": "", "registered": ""},
    ),
    service("IPv6 and a Skype header", SIP, _SKYPE),
    Step(name="every value empty", endpoint="participant_properties", query=_EMPTY),
    *(
        Step(name=f"{endpoint}: node and direction only", endpoint=endpoint, query=_FEW)
        for endpoint in ("participant_properties", "media_location")
    ),
    participant("no service tag", WEB, {**CHAIR, "service_tag": None, "service_name": None}),
    participant(
        *("no name", WEB),
        {**CHAIR, "remote_display_name": "", "remote_alias": Placeholder.CALLER},
    ),
)

_ROLES = (
    participant("role empty", WEB, {**CHAIR, "preauthenticated_role": ""}),
    *(
        participant(
            *(f"role {name}", WEB, {**CHAIR, "preauthenticated_role": value}),
            same_as="role empty",
            because="an empty role, None, null and no role mean the same",
            certain=False,
        )
        for name, value in (("None", "None"), ("null", "null"), ("absent", None))
    ),
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
    Flow("odd encodings", _ENCODINGS),
    Flow("aliases in the path", _ALIASES),
    Flow("odd values", _VALUES),
    Flow("ways to say no role", _ROLES),
)
"""All flows, in the order in which they are sent."""
