"""What all tables of the configuration have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

MAX_BUDGET = 4.5
"""Seconds; the node gives up at 5, and the reply has to travel."""

EndpointName = Literal[
    "service_configuration",
    "participant_properties",
    "media_location",
    "participant_avatar",
    "directory_information",
    "registration_alias",
]


class Table(BaseModel):
    """The base of the tables: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
