"""Flows of unusual requests, all of which a node can send."""

from __future__ import annotations

from urllib.parse import quote

from pexpolicy.conformance import request_templates
from pexpolicy.conformance.flow_steps import DecodingMarker, Flow, Placeholder, Query, Step
from pexpolicy.conformance.request_templates import SIP, WEB

SERVICE, PARTICIPANT, LOCATION = (
    "service_configuration",
    "participant_properties",
    "media_location",
)
AVATAR, REGISTRATION = "participant_avatar", "registration_alias"

MARKED = "sip:zq7k%23x+1@example.com"
"""An alias with a percent sign and a plus, which a second decoding would change."""
TWICE, NEVER = "it was decoded twice", "it was not decoded"
MARKED_TRACES = (
    DecodingMarker("zq7k%2523x", NEVER),
    DecodingMarker("zq7k#x", TWICE),
    DecodingMarker("zq7k%23x 1", "its plus became a blank"),
    DecodingMarker("zq7k%23x%2b1", NEVER),
    DecodingMarker("zq7k%23x+1%40", NEVER),
)
NAME = "zq7k Zoë Ångström"
NAME_TRACES = (
    DecodingMarker("zq7k+zo", "a plus in a query is a blank"),
    DecodingMarker("zq7k%20zo", NEVER),
    DecodingMarker("zo%c3%ab", NEVER),
    DecodingMarker("zoã«", "UTF-8 was read as Latin-1"),
    DecodingMarker("zo\N{REPLACEMENT CHARACTER}", "UTF-8 was read as something else"),
)
UTF8_TRACES = (
    DecodingMarker("zq7km%c3%b8te", NEVER),
    DecodingMarker("zq7km\u00e3\u00b8te", "UTF-8 was read as Latin-1"),
    DecodingMarker("zq7km\N{REPLACEMENT CHARACTER}", "UTF-8 was read as something else"),
)
CHAIR: Query = {"protocol": "webrtc", "preauthenticated_role": "chair"}


def _service(name: str, query: Query, traces: tuple[DecodingMarker, ...] = ()) -> Step:
    return Step(name=name, endpoint=SERVICE, query=query, traces=traces)


def _participant(name: str, changes: Query, traces: tuple[DecodingMarker, ...] = ()) -> Step:
    query = request_templates.participant("v39", WEB, {**CHAIR, **changes})
    return Step(name=name, endpoint=PARTICIPANT, query=query, traces=traces)


_LONG = tuple(f"cn=group-{number:04d},ou=groups,dc=example,dc=com" for number in range(260))
_ENCODINGS = (
    _service(
        "escaped alias",
        request_templates.service("v39", SIP, {"local_alias": MARKED}),
        MARKED_TRACES,
    ),
    _service(
        "alias in UTF-8",
        request_templates.service("v39", WEB, {"local_alias": "zq7kmøte"}),
        UTF8_TRACES,
    ),
    _service("blanks as +", request_templates.service("v39", WEB, {"location": "New York 2"})),
    Step(
        name="blanks as %20",
        endpoint=SERVICE,
        query=request_templates.service("v39", WEB, {"location": "New York 2"}),
        escape=quote,
        same_as="blanks as +",
        because="+ and %20 are both a blank",
    ),
    _participant("name in UTF-8", {"remote_display_name": NAME}, NAME_TRACES),
    _participant(
        "repeated attributes",
        {
            "idp_attribute_groups": ("analysts", "managers"),
            "idp_attribute_Job Title": "Agent",
            "idp_attribute_clear-ance": "SECRET",
        },
    ),
    Step(
        name="a query of 20 KB",
        endpoint=PARTICIPANT,
        query=request_templates.participant("v39", WEB, {**CHAIR, "idp_attribute_memberOf": _LONG}),
        strain=True,
    ),
)

_ALIASES = tuple(
    Step(name=name, endpoint=endpoint, query=query, alias=alias, traces=traces)
    for endpoint, query in (
        (REGISTRATION, request_templates.registration("v39", "sip", "credentials")),
        (AVATAR, request_templates.avatar("v39", SIP, (48, 64))),
    )
    for name, alias, traces in (
        (f"{endpoint}: @ as %40", "zq7k%2523x+1%40example.com", MARKED_TRACES),
        (f"{endpoint}: scheme and parameters", "sip:alice@example.com:5060;transport=tls", ()),
        (f"{endpoint}: a blank and UTF-8", "zq7km%C3%B8te%20rom", UTF8_TRACES),
    )
)

_EMPTY: Query = {
    name: value if name in ("call_direction", "node_ip", "version_id") else ""
    for name, value in request_templates.participant("v39", WEB).items()
}
_FEW: Query = {"call_direction": "dial_in", "node_ip": "10.44.155.21"}
_VALUES = (
    _service("plain", request_templates.service("v39", WEB)),
    Step(
        name="unknown parameters",
        endpoint=SERVICE,
        query=request_templates.service(
            "v39", WEB, {"future~setting": "1", "Call-ID": "x", "future_list": ("a", "b")}
        ),
        same_as="plain",
        because="almost every release adds parameters, which must be ignored",
    ),
    _service(
        "no alias, no vendor",
        request_templates.service("v39", WEB, {"local_alias": None, "vendor": None}),
    ),
    _service("node and direction only", _FEW),
    _service(
        "parameters that should be numbers and are text",
        request_templates.service(
            "v39", WEB, {"bandwidth": "unknown", "remote_port": "", "registered": ""}
        ),
    ),
    _service(
        "IPv6 and a Skype header",
        request_templates.service(
            "v39",
            SIP,
            {
                "remote_address": "2001:db8::5",
                "ms-subnet": '["10.47.5.0"]',
                "p_Asserted-Identity": '["\\"Alice\\" <sip:alice@example.com>"]',
            },
        ),
    ),
    Step(name="every value empty", endpoint=PARTICIPANT, query=_EMPTY),
    *(
        Step(name=f"{endpoint}: node and direction only", endpoint=endpoint, query=_FEW)
        for endpoint in (PARTICIPANT, LOCATION)
    ),
    _participant("no service tag", {"service_tag": None, "service_name": None}),
    _participant("no name", {"remote_display_name": "", "remote_alias": Placeholder.CALLER}),
)

_ROLES = (
    _participant("role empty", {"preauthenticated_role": ""}),
    *(
        Step(
            name=f"role {name}",
            endpoint=PARTICIPANT,
            query=request_templates.participant(
                "v39", WEB, {**CHAIR, "preauthenticated_role": value}
            ),
            same_as="role empty",
            because="an empty role, None, null and no role mean the same",
            certain=False,
        )
        for name, value in (("None", "None"), ("null", "null"), ("absent", None))
    ),
)

ODDITIES = (
    Flow("odd encodings", _ENCODINGS),
    Flow("aliases in the path", _ALIASES),
    Flow("odd values", _VALUES),
    Flow("ways to say no role", _ROLES),
)
