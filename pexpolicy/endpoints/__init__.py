"""The six request types of Infinity, by name; one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pexpolicy.endpoints import (
    directory_information,
    media_location,
    participant_avatar,
    participant_properties,
    registration_alias,
    service_configuration,
)
from pexpolicy.endpoints.base import Endpoint

ENDPOINTS: Mapping[str, Endpoint[Any]] = {
    module.ENDPOINT.name: module.ENDPOINT
    for module in (
        service_configuration,
        participant_properties,
        media_location,
        participant_avatar,
        directory_information,
        registration_alias,
    )
}
