"""Media location: the system location for the media of a participant."""

from __future__ import annotations

from msgspec import UNSET

from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.service_rules import is_odd_name
from pexpolicy.endpoints.shared_parameters import (
    CallRequest,
    ProxyParameters,
    ServiceParameters,
    TransferParameters,
)
from pexpolicy.models.decision import Continue, Decision, Name, OptionalName, Unset
from pexpolicy.models.rules import Confidence, Field, Rule

OLD_FORMS = ("primary_overflow_location", "secondary_overflow_location")  # lorist


class MediaLocationRequest(CallRequest, ServiceParameters, TransferParameters, ProxyParameters):
    """Which system location handles the media of this participant?"""

    since = "v11"


_OLD = "the old form; it is unknown whether it is still read, so send overflow_locations"
# fmt: off
_MEDIA_LOCATION_RULES = (
    Rule("location", "holds control characters, or nothing but blanks", Confidence.REPORTED,
         lambda s: is_odd_name(s.location)),
    *(Rule(name, _OLD, Confidence.DISPUTED, lambda _: True) for name in OLD_FORMS),
)
# fmt: on


class MediaLocation(
    Decision,
    consequence="Infinity would drop the whole answer and choose the location itself",
    fields=dict.fromkeys(OLD_FORMS, Field(Confidence.DISPUTED)),
    rules=_MEDIA_LOCATION_RULES,
):
    """A system location, and the ones to use when it is full."""

    location: Name
    """Name of a system location, spelled as in Infinity."""
    overflow_locations: list[Name] | Unset = UNSET
    """Names of system locations, tried in order when it is full."""
    primary_overflow_location: OptionalName = UNSET
    """Old form of overflow_locations."""
    secondary_overflow_location: OptionalName = UNSET
    """Old form of overflow_locations."""


ENDPOINT = Endpoint(
    name="media_location",
    path="/policy/v1/participant/location",
    request=MediaLocationRequest,
    decisions=(MediaLocation, Continue),
    refusal=Continue(),
    can_reject=False,
    continues_by_404=True,
)
