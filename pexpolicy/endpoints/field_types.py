"""The types of the fields of a service."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from pexpolicy.endpoints import service_rules
from pexpolicy.models.messages import BIT_RATE

Pin = Annotated[
    str,
    Meta(
        max_length=20,
        description="a PIN as text, 4 to 20 characters, digits with a # at the end or without",
        extra_json_schema={"pattern": service_rules.PIN_PATTERN},
        extra={"zeros": True},
    ),
]
BitsPerSecond = Annotated[
    int,
    Meta(
        ge=128_000,
        le=8_192_000,
        description="a whole number of bits per second from 128000 to 8192000",
        extra={"unit": BIT_RATE},
    ),
]
Uuid = Annotated[
    str,
    Meta(
        min_length=36,
        max_length=36,
        description="a UUID such as 3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc",
        extra_json_schema={"pattern": service_rules.UUID_PATTERN},
    ),
]
Email = Annotated[str, Meta(max_length=100)]
Name = Annotated[str, Meta(min_length=1, max_length=250)]
Count = Annotated[int, Meta(ge=0)]
YesNo = Literal["default", "yes", "no"]
CallType = Literal["video", "video-only", "audio"]
Crypto = Literal["besteffort", "on", "off"]
DirectMedia = Literal["never", "best_effort", "always"]
NonIdpParticipants = Literal["disallow_all", "allow_if_trusted"]
Pixels = Literal["sd", "hd", "fullhd"]
