"""The parameters of Infinity's requests by version, in their order."""

from __future__ import annotations

from collections.abc import Mapping

from pexpolicy.conformance.flow_steps import Placeholder, Query, Value

BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36 Webapp3/11.0.0+22eb91946"
)
CALL_UUID = "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"
REQUEST_ID = "ab60c076-0715-47d9-8639-93f3b0856746"

_NODE = {"location": "London", "node_ip": "10.44.155.21"}
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

_OLD: dict[str, str] = {
    "protocol": "sip",
    "node_ip": "10.44.155.21",
    "registered": "False",
    "remote_address": "10.44.151.5",
    "version_id": "16",
    "bandwidth": "0",
    "pseudo_version_id": "36402.0.0",
    "vendor": "Cisco/CE",
    "local_alias": "",
    "remote_port": "58435",
    "call_direction": "dial_in",
    "remote_alias": "",
    "remote_display_name": "Alice",
    "trigger": "invite",
    "location": "London",
}
_CALL: dict[str, str] = {
    "call_direction": "dial_in",
    "protocol": "",
    "bandwidth": "0",
    "vendor": "",
    "encryption": "On",
    "registered": "False",
    "trigger": "",
    "remote_display_name": "",
    "remote_alias": "",
    "remote_address": "",
    "remote_port": "",
    "call_tag": "",
    "idp_uuid": "",
    "has_authenticated_display_name": "False",
    "supports_direct_media": "",
    "teams_tenant_id": "",
}
_SINCE_38 = {"third_party_passcode": "", "display_count": ""}
_PROXY = {"proxy_node_address": "", "proxy_node_location": ""}
_PARTICIPANT: dict[str, str] = {
    "preauthenticated_role": "",
    "bypass_lock": "False",
    "receive_from_audio_mix": "main",
    "participant_type": "standard",
    "participant_uuid": CALL_UUID,
    "call_uuid": CALL_UUID,
    "breakout_uuid": "",
    "send_to_audio_mixes_mix_name": "main",
    "send_to_audio_mixes_prominent": "False",
}
_SINCE_39 = {
    "layout_group": "",
    "spotlight": "0",
    "disable_overlay_text": "False",
    "prefers_multiscreen_mix": "",
    "wants_presentation_in_mix": "",
    "can_receive_personal_mix": "False",
    "rx_presentation_policy": "ALLOW",
    "receive_from_video_mix~mix_name": "main",
}
_SERVICE: Query = {
    "unique_service_name": Placeholder.SERVICE_NAME,
    "service_name": Placeholder.SERVICE_NAME,
    "service_tag": Placeholder.SERVICE_TAG,
}


def _call(version: str) -> dict[str, Value]:
    if version in ("v16", "v21"):
        proxy = {"encryption": "Unknown", **_PROXY} if version == "v21" else {}
        return {**_OLD, **proxy, **_VERSION[version]}
    since = _SINCE_38 if version in ("v38", "v39") else {}
    return {**_CALL, **since, **_NODE, **_VERSION[version]}


def _filled(base: Mapping[str, Value], version: str, caller: Query, changes: Query) -> Query:
    """Return ``base`` with the values of the caller and the changes of the step."""
    shape = dict(base)
    shape.setdefault("local_alias", "")
    shape.update({name: value for name, value in caller.items() if name in shape})
    if version in ("v38", "v39"):
        shape["request_id"] = REQUEST_ID
    return {**shape, **changes}


def service(version: str, caller: Query, changes: Query | None = None) -> Query:
    """Return a service configuration request."""
    return _filled(_call(version), version, caller, changes or {})


def participant(version: str, caller: Query, changes: Query | None = None) -> Query:
    """Return a participant properties request; versions before v33 make none."""
    newest = _SINCE_39 if version == "v39" else {}
    base = {**_call(version), **_PARTICIPANT, **newest, **_SERVICE}
    return _filled(base, version, caller, changes or {})


def location(version: str, caller: Query, changes: Query | None = None) -> Query:
    """Return a media location request."""
    base = {**_call(version), **_PROXY, **_SERVICE}
    for name in _SINCE_38:
        base.pop(name, None)
    return _filled(base, version, caller, changes or {})


def avatar(
    version: str, caller: Query, size: tuple[int, int], changes: Query | None = None
) -> Query:
    """Return an avatar request for a participant; ``size`` is width and height in pixels."""
    width, height = size
    sides = {"width": str(width), "height": str(height), "role": "chair"}
    base = {**_call(version), **_SERVICE, **sides}
    for name in (*_SINCE_38, "encryption", "call_tag", "teams_tenant_id"):
        base.pop(name, None)
    return _filled(base, version, caller, changes or {})


def directory_avatar(version: str, size: tuple[int, int]) -> Query:
    """Return an avatar request for an entry of the directory: node and size only."""
    width, height = size
    sides = {"registered": "True", "height": str(height), "width": str(width)}
    return {**sides, **_NODE, **_VERSION[version]}


def directory(version: str, text: str, limit: int = 10) -> Query:
    """Return a directory search."""
    search: Query = {"q": text, "registration_alias": Placeholder.CALLER, "limit": str(limit)}
    return {**search, **_NODE, **_VERSION[version]}


def registration(version: str, protocol: str, auth_type: str) -> Query:
    """Return a registration request."""
    device = {"protocol": protocol, "auth_type": auth_type, "remote_address": "10.44.151.5"}
    return {**device, **_NODE, **_VERSION[version]}
