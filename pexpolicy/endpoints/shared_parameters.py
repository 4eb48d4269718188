"""The parameters that several requests share, grouped as Infinity sends them."""

from __future__ import annotations

from pexpolicy.models.alias import Alias
from pexpolicy.models.request import (
    Parameter,
    Params,
    Request,
    alias,
    flag,
    header_values,
    integer,
    text,
    typed,
    word,
)
from pexpolicy.models.rules import Confidence, Privacy

BEFORE_V29 = "v29 to v34"
"""First seen in a copy of Pexip's table whose version lies between these."""

PROTOCOLS = ("api", "webrtc", "sip", "rtmp", "h323", "teams", "mssip")
_TRIGGERS = (
    "web web_avatar_fetch invite options subscribe setup arq lrq two_stage_dialing teams "
    "unspecified"
)
TRIGGERS = tuple(_TRIGGERS.split())


class NodeRequest(Request):
    """The parameters of all six requests: the node that sends them."""

    location = Parameter(text)
    """System location of the node; may contain blanks."""
    node_ip = Parameter(text)
    """Address of the node."""
    version_id = Parameter(text)
    """Version of Infinity: text, such as 39 or 21.1."""
    pseudo_version_id = Parameter(text)
    """Build of Infinity, such as 82559.0.0."""


class AliasRequest(NodeRequest):
    """The requests with an alias in their path."""

    alias: Alias
    """The alias in the path: of the participant, the directory entry, or the device."""

    def __init__(self, params: Params, alias: str) -> None:
        super().__init__(params)
        self.__dict__["alias"] = Alias(alias)


class CallRequest(NodeRequest):
    """The parameters of a call: service, participant, location and avatar requests."""

    local_alias = Parameter(alias, privacy=Privacy.PERSONAL)
    """The dialed alias, the key of most decisions. Web: as typed; SIP: the full URI; H.323: may
    have a scheme. For an outbound call: the alias it calls from.
    """
    remote_alias = Parameter(alias, privacy=Privacy.PERSONAL)
    """The caller, or the called party; equal to the display name for web guests."""
    remote_display_name = Parameter(typed, privacy=Privacy.PERSONAL)
    """Name of the caller."""
    remote_address = Parameter(text, privacy=Privacy.PERSONAL)
    """IPv4 or IPv6 address of the caller, or of a proxy before it."""
    remote_port = Parameter(integer)
    """Port of the caller."""
    call_direction = Parameter(word, values=("dial_in", "dial_out", "non_dial"))
    """dial_in; dial_out before Infinity dials; non_dial for probes such as OPTIONS, SUBSCRIBE."""
    protocol = Parameter(word, values=PROTOCOLS)
    """Protocol of the call; web apps start as api."""
    trigger = Parameter(word, values=TRIGGERS)
    """What made the node send the request."""
    vendor = Parameter(text)
    """SIP User-Agent or browser; web apps append Webapp3/version+hash."""
    registered = Parameter(flag)
    """True for a caller that is registered with Infinity."""
    bandwidth = Parameter(integer)
    """Bandwidth of an inbound call; 0 in every capture."""
    call_tag = Parameter(typed, since=BEFORE_V29, privacy=Privacy.PERSONAL)
    """Tag of the call, free text."""
    idp_uuid = Parameter(text, since="v35")
    """UUID of the identity provider (not of the user)."""
    has_authenticated_display_name = Parameter(flag, since="v35")
    """True when the display name came from an identity provider."""
    supports_direct_media = Parameter(flag, since="v35")
    """True for clients that can send media directly."""
    teams_tenant_id = Parameter(text, since="v35")
    """Tenant of a Microsoft Teams call."""
    ms_subnet = Parameter(header_values, wire="ms-subnet")
    """Subnets of a Skype for Business client, from the SIP header of that name; each a text. The
    name is matched without case and with _ equal to -.
    """
    p_asserted_identity = Parameter(
        header_values, wire="p_Asserted-Identity", privacy=Privacy.PERSONAL
    )
    """Asserted identities from the SIP header of that name; each a text such as <sip:a@b>. The name
    is matched without case and with _ equal to -; old versions: P-Asserted-Identity.
    """


class ServiceParameters(Request):
    """The service of the call, as our service answer named it."""

    service_name = Parameter(text)
    """Equal to name of our service answer."""
    service_tag = Parameter(text)
    """Equal to service_tag of our service answer."""
    unique_service_name = Parameter(text)
    """Gateway: the rule's name with a unique suffix; breakout: main room, _breakout_ and its UUID;
    else equal to service_name.
    """


class TransferParameters(Request):
    """An earlier service of the same caller."""

    previous_service_name = Parameter(text)
    """Service before a transfer; use it to avoid loops."""
    telehealth_request_id = Parameter(text, since=BEFORE_V29)
    """Id of the request, Epic telehealth calls only."""
    request_id = Parameter(text, since="v35", mark=Confidence.OBSERVED)
    """Id of this request, for correlation; not guaranteed. A UUID, or 8 hexadecimal digits."""
    encryption = Parameter(text, values=("On", "Unknown"), since="v21", mark=Confidence.OBSERVED)
    """On for web calls, Unknown for SIP."""


class ProxyParameters(Request):
    """The edge node that proxies the signalling."""

    proxy_node_address = Parameter(text)
    """Address of the proxying edge node."""
    proxy_node_location = Parameter(text)
    """System location of the proxying edge node."""
