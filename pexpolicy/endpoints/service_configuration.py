"""Service configuration: the service of an alias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.service_types import (
    Conference,
    Gateway,
    Lecture,
    MediaPlayback,
    OtherService,
    Service,
    TestCall,
    VirtualReception,
)
from pexpolicy.endpoints.shared_parameters import CallRequest, ServiceParameters, TransferParameters
from pexpolicy.models.alias import Alias
from pexpolicy.models.contract import NO_EXTRAS, Extras, contract_of
from pexpolicy.models.decision import Continue, Decision, Redirect, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.request import Parameter, integer, text
from pexpolicy.models.rules import Confidence, Privacy
from pexpolicy.models.validation import NOT_SHOWN, refusal
from pexpolicy.text import brief, did_you_mean


class ServiceConfigurationRequest(CallRequest, ServiceParameters, TransferParameters):
    """Which service does ``local_alias`` lead to?

    A web app sends it twice for one join, the second time after the PIN or single sign-on: the same
    call must get the same answer. ``service_name`` and ``service_tag`` are sent for outbound calls
    and breakouts only.
    """

    since = "v11"

    breakout_uuid = Parameter(text)
    """UUID of the requested breakout room."""
    third_party_passcode = Parameter(text, since="v38", privacy=Privacy.SECRET)
    """Passcode from the invitation of a Teams Room."""
    display_count = Parameter(integer, since="v38")
    """Screens of a Teams Room that joins by One-Touch Join."""
    proxy_node_address = Parameter(text, since="v21", mark=Confidence.OBSERVED)
    """Address of the proxying edge node; gone in v38."""
    proxy_node_location = Parameter(text, since="v21", mark=Confidence.OBSERVED)
    """System location of that node; gone in v38."""


TRANSCRIBED = f"[{Confidence.TRANSCRIBED}]"

SERVICE_TYPES: Mapping[str, type[Service]] = {
    contract_of(service).constants["service_type"]: service
    for service in (Conference, Lecture, Gateway, VirtualReception, MediaPlayback, TestCall)
}


def service_class(kind: object, extras: Extras = NO_EXTRAS) -> type[Service]:
    """Return the class of a ``service_type`` that Pexip documents or the operator lists.

    Raise ``DecisionError`` for any other.
    """
    if extras.has("service_type", kind):
        return OtherService
    if isinstance(kind, str) and kind in SERVICE_TYPES:
        return SERVICE_TYPES[kind]
    guess = did_you_mean(kind, SERVICE_TYPES) if isinstance(kind, str) else ""
    wrong = "is required," if kind is None else f"{brief(kind)} is not"
    rule = f"{wrong} one of {', '.join(SERVICE_TYPES)}{guess}"
    raise DecisionError(refusal(contract_of(Service), "service_type", NOT_SHOWN, rule))


class _ServiceConfiguration(Endpoint[ServiceConfigurationRequest]):
    def from_result(self, result: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Decision:
        """Return a service by its ``service_type``, or a redirect by its ``new_alias``."""
        if result.keys() == {"new_alias"}:
            return Redirect.from_result(result)
        return service_class(result.get("service_type"), extras).from_result(result, extras=extras)

    def check_answer(self, answer: object, request: ServiceConfigurationRequest) -> Decision:
        """Check the answer, with warnings where it does not fit the request."""
        decision = self.to_decision(answer)
        params = request.params
        warnings: list[str] = []
        if isinstance(decision, Redirect):
            warnings += _unfit_redirect(decision, request)
        elif params.get("call_direction") != "dial_in" or params.get("breakout_uuid"):
            warnings += _unfit(decision, request) if isinstance(decision, Service) else ()
        return decision.with_warnings(*warnings) if warnings else decision


def _unfit_redirect(redirect: Redirect, request: ServiceConfigurationRequest) -> Iterator[str]:
    """Yield the warnings of a redirect that does not fit this request."""
    if request.protocol not in (None, "sip"):
        text = f"a redirect reaches SIP callers only, and this is {request.protocol}"
        yield f"new_alias: {text} {TRANSCRIBED}"
    if Alias(redirect.new_alias) == request.local_alias:
        yield "new_alias: is the dialed alias, so the caller is redirected in a circle [reported]"


def _unfit(service: Service, request: ServiceConfigurationRequest) -> Iterator[str]:
    """Yield the warnings of a service that does not fit this request."""
    if request.call_direction == "non_dial":
        yield "name: the request is a probe such as OPTIONS, which should create nothing [reported]"
    if request.call_direction == "dial_out":  # rule 13
        running = {"name": request.service_name, "service_tag": request.service_tag}
        for name, value in running.items():
            if value is not None and value != getattr(service, name):
                text = "the running service that dials out has another, and the answer must match"
                yield f"{name}: {text} it; only prefer_ipv6 has an effect {TRANSCRIBED}"
    if (asked := request.breakout_uuid) is not None:
        fields = service.set_fields()
        if fields.get("breakout") is not True:
            text = "a breakout room is requested, which needs breakout = true"
            yield f"breakout: {text} {TRANSCRIBED}"
        elif str(fields.get("breakout_uuid")).lower() != asked.lower():
            yield f"breakout_uuid: another breakout room is requested {TRANSCRIBED}"


ENDPOINT = _ServiceConfiguration(
    name="service_configuration",
    path="/policy/v1/service/configuration",
    request=ServiceConfigurationRequest,
    decisions=(*SERVICE_TYPES.values(), Continue, Reject, Redirect, OtherService),
)
