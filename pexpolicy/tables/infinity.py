"""``[infinity]`` and ``[endpoints.NAME]``: what exists in Infinity, and what it gets by default."""

from __future__ import annotations

from typing import Literal

from pexpolicy.tables.base import Table


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
