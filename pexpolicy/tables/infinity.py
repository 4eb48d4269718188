"""``[infinity]`` and ``[endpoints.NAME]``: what exists in Infinity, and what it gets by default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pexpolicy.models.extras import Extras
from pexpolicy.tables.base import Table

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
Word = Annotated[str, Field(min_length=1, max_length=250)]

OTHERS = ("min_pin_length", "extra_fields", "extra_values")
"""Keys of ``[infinity]`` that list no names of objects."""


class EndpointTable(Table):
    """``[endpoints.NAME]``: what answers when no plugin decides."""

    default: Literal["continue", "reject"] = "continue"


class InfinityTable(Table):
    """``[infinity]``: names of objects of Infinity. Where they are listed, an unlisted name is
    refused.
    """

    locations: list[str] | None = None
    themes: list[str] | None = None
    identity_provider_groups: list[str] | None = None
    h323_gatekeepers: list[str] | None = None
    sip_proxies: list[str] | None = None
    mssip_proxies: list[str] | None = None
    teams_proxies: list[str] | None = None
    stun_servers: list[str] | None = None
    turn_servers: list[str] | None = None
    gms_access_tokens: list[str] | None = None
    media_playlists: list[str] | None = None
    min_pin_length: int = Field(6, ge=4, le=20)
    extra_fields: list[Name] = Field(default_factory=list)
    extra_values: dict[Name, list[Word]] = Field(default_factory=dict)

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """The names of objects, by kind, where they are listed."""
        return {
            kind: frozenset(names)
            for kind, names in self
            if names is not None and kind not in OTHERS
        }

    @property
    def extras(self) -> Extras:
        """What is sent although this release does not know it."""
        values = {name: frozenset(words) for name, words in self.extra_values.items()}
        return Extras(frozenset(self.extra_fields), values)
