"""Service configuration: which service an alias leads to. Asked for each call, and before Infinity dials out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pexpolicy.decisions import Continue, Decision, Redirect, Reject
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.call_parameters import (
    CallRequest,
    ProxyParameters,
    ServiceParameters,
    TransferParameters,
)
from pexpolicy.endpoints.service_types import (
    Conference,
    Gateway,
    Lecture,
    MediaPlayback,
    Service,
    TestCall,
    VirtualReception,
)
from pexpolicy.parameters import Parameter, integer, text
from pexpolicy.refusal import brief, did_you_mean


class ServiceConfigurationRequest(
    CallRequest, ServiceParameters, TransferParameters, ProxyParameters
):
    """Which service does ``local_alias`` lead to?

    A web app asks twice for one join, the second time after the PIN or single sign-on: the same call must
    get the same answer. ``service_name`` and ``service_tag`` come on outbound calls and for breakouts only.
    """

    breakout_uuid = Parameter(text, "UUID of the breakout room that is asked for.")
    third_party_passcode = Parameter(
        text, "Passcode from the invitation of a Teams Room.", since="v38", secret=True
    )
    display_count = Parameter(
        integer, "Screens of a Teams Room that joins by One-Touch Join.", since="v38"
    )


SERVICE_TYPES: Mapping[str, type[Service]] = {
    service.fixed["service_type"]: service
    for service in (Conference, Lecture, Gateway, VirtualReception, MediaPlayback, TestCall)
}


class _ServiceConfiguration(Endpoint[ServiceConfigurationRequest]):
    def from_result(self, result: Mapping[str, Any]) -> Decision:
        """A service by its ``service_type``, or a redirect by its ``new_alias``."""
        if result.keys() == {"new_alias"}:
            return Redirect.from_result(result)
        named = result.get("service_type")
        service = SERVICE_TYPES.get(named) if isinstance(named, str) else None
        if service is None:
            guess = did_you_mean(named, SERVICE_TYPES) if isinstance(named, str) else ""
            raise self.refuse(f"service_type = {brief(named)} is none of {', '.join(SERVICE_TYPES)}{guess}")
        return service.from_result(result)

    def admit(self, answer: object, request: ServiceConfigurationRequest) -> Decision:
        """As for each endpoint; an answer for an outbound call is held against the running service."""
        decision = self.decide(answer)
        if isinstance(decision, Service) and request.params.get("call_direction") == "dial_out":
            return decision.for_running_service(request.service_name)
        return decision


ENDPOINT = _ServiceConfiguration(
    name="service_configuration",
    path="/policy/v1/service/configuration",
    request=ServiceConfigurationRequest,
    decisions=(*SERVICE_TYPES.values(), Continue, Reject, Redirect),
)
