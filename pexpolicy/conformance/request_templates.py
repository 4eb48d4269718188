"""Steps with the requests of a node: the parameters of each version, in their order."""

from __future__ import annotations

from functools import partial
from typing import Any

from pexpolicy.conformance.flow_steps import Placeholder, Query, Step, Value

BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36 Webapp3/11.0.0+22eb91946"
)
NEWEST = "v39"
UNCHANGED: Query = {}
REQUEST_ID = "ab60c076-0715-47d9-8639-93f3b0856746"


def _named(pairs: str) -> dict[str, str]:
    """Return parameters from ``name=value`` pairs with a blank between them."""
    return dict(pair.split("=", 1) for pair in pairs.split())


_NODE = _named("location=London node_ip=10.44.155.21")
_VERSION = {
    "v16": {"version_id": "16", "pseudo_version_id": "36402.0.0"},
    "v21": {"version_id": "21.1", "pseudo_version_id": "46204.0.0"},
    "v35": {"version_id": "35", "pseudo_version_id": "77683.0.0"},
    "v38": {"version_id": "38", "pseudo_version_id": "81843.0.0"},
    "v39": {"version_id": "39", "pseudo_version_id": "82559.0.0"},
}

# The values of a caller; a template uses the names that it has.
WEB: Query = {
    "protocol": "api",
    "vendor": BROWSER,
    "encryption": "On",
    "trigger": "web",
    "remote_display_name": "Dana Scully",
    "remote_alias": "Dana Scully",
    "remote_address": "10.0.3.237",
    "remote_port": "59506",
    "supports_direct_media": "True",
    "local_alias": Placeholder.ALIAS,
}
SIP: Query = {
    "protocol": "sip",
    "vendor": "Cisco/CE",
    "encryption": "On",
    "trigger": "invite",
    "remote_display_name": "Alice",
    "remote_alias": Placeholder.CALLER,
    "remote_address": "10.44.151.5",
    "remote_port": "58435",
    "supports_direct_media": "False",
    "local_alias": Placeholder.SIP_ALIAS,
}
H323: Query = {
    **SIP,
    "protocol": "h323",
    "vendor": "TANDBERG (c60)",
    "trigger": "setup",
    "remote_alias": "h323:+4712345678",
    "local_alias": "h323:+4722334455",
}

_OLD = _named(
    """
    protocol=sip node_ip=10.44.155.21 registered=False remote_address=10.44.151.5 version_id=16
    bandwidth=0 pseudo_version_id=36402.0.0 vendor=Cisco/CE local_alias= remote_port=58435
    call_direction=dial_in remote_alias= remote_display_name=Alice trigger=invite
    location=London
    """
)
_CALL = _named(
    """
    call_direction=dial_in protocol= bandwidth=0 vendor= encryption=On registered=False trigger=
    remote_display_name= remote_alias= remote_address= remote_port= call_tag= idp_uuid=
    has_authenticated_display_name=False supports_direct_media= teams_tenant_id=
    """
)
_SINCE_38 = _named("third_party_passcode= display_count=")
_PROXY = _named("proxy_node_address= proxy_node_location=")
_PARTICIPANT = _named(
    """
    preauthenticated_role= bypass_lock=False receive_from_audio_mix=main
    participant_type=standard participant_uuid=3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc
    call_uuid=3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc breakout_uuid=
    send_to_audio_mixes_mix_name=main send_to_audio_mixes_prominent=False
    """
)
_SINCE_39 = _named(
    """
    layout_group= spotlight=0 disable_overlay_text=False prefers_multiscreen_mix=
    wants_presentation_in_mix= can_receive_personal_mix=False rx_presentation_policy=ALLOW
    receive_from_video_mix~mix_name=main
    """
)
_SERVICE: Query = {
    "unique_service_name": Placeholder.SERVICE_NAME,
    "service_name": Placeholder.SERVICE_NAME,
    "service_tag": Placeholder.SERVICE_TAG,
}


_ABSENT = {
    "media_location": {*_SINCE_38},
    "participant_avatar": {*_SINCE_38, "encryption", "call_tag", "teams_tenant_id"},
}
"""Parameters of a call that a request lacks."""


def _call(version: str) -> dict[str, Value]:
    if version in ("v16", "v21"):
        proxy = {"encryption": "Unknown", **_PROXY} if version == "v21" else {}
        return {**_OLD, **proxy, **_VERSION[version]}
    since = _SINCE_38 if version in ("v38", "v39") else {}
    return {**_CALL, **since, **_NODE, **_VERSION[version]}


def _parameters(endpoint: str, version: str) -> dict[str, Value]:
    """Return the parameters of a request in a call; participant properties exist since v33."""
    call = _call(version)
    if endpoint == "participant_properties":
        newest = _SINCE_39 if version == "v39" else {}
        return {**call, **_PARTICIPANT, **newest, **_SERVICE}
    if endpoint == "media_location":
        call |= {**_PROXY, **_SERVICE}
    elif endpoint == "participant_avatar":
        call |= _SERVICE
    return {name: value for name, value in call.items() if name not in _ABSENT.get(endpoint, ())}


def request(
    endpoint: str,
    name: str,
    caller: Query,
    changes: Query = UNCHANGED,
    version: str = NEWEST,
    **options: Any,
) -> Step:
    """Return a request with the values of a caller, and with changes; for options see ``Step``."""
    query = _parameters(endpoint, version)
    query.setdefault("local_alias", "")
    query |= {known: value for known, value in caller.items() if known in query}
    if version in ("v38", "v39"):
        query["request_id"] = REQUEST_ID
    return Step(name=name, endpoint=endpoint, query={**query, **changes}, **options)


service = partial(request, "service_configuration")
participant = partial(request, "participant_properties")
location = partial(request, "media_location")


def avatar(
    name: str, caller: Query, size: tuple[int, int], changes: Query = UNCHANGED, **options: Any
) -> Step:
    """Return an avatar request for a participant; ``size`` is width and height in pixels."""
    sides = {"width": str(size[0]), "height": str(size[1]), "role": "chair"}
    options.setdefault("alias", Placeholder.CALLER)
    return request("participant_avatar", name, caller, {**sides, **changes}, **options)


def directory_avatar(name: str, size: tuple[int, int], **options: Any) -> Step:
    """Return an avatar request for an entry of the directory: node and size only."""
    sides = {"registered": "True", "height": str(size[1]), "width": str(size[0])}
    query = {**sides, **_NODE, **_VERSION[NEWEST]}
    alias = Placeholder.CALLER
    return Step(name=name, endpoint="participant_avatar", query=query, alias=alias, **options)


def search(
    text: str, limit: int = 10, version: str = NEWEST, name: str = "", **options: Any
) -> Step:
    """Return a directory search."""
    sent: Query = {"q": text, "registration_alias": Placeholder.CALLER, "limit": str(limit)}
    query = {**sent, **_NODE, **_VERSION[version]}
    name = name or f"search {text!r}"
    return Step(name=name, endpoint="directory_information", query=query, **options)


def registration(
    name: str, protocol: str, auth_type: str, version: str = NEWEST, **options: Any
) -> Step:
    """Return a device registration."""
    device = {"protocol": protocol, "auth_type": auth_type, "remote_address": "10.44.151.5"}
    query = {**device, **_NODE, **_VERSION[version]}
    options.setdefault("alias", Placeholder.CALLER)
    return Step(name=name, endpoint="registration_alias", query=query, **options)
