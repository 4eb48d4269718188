"""Registration by domain: who may register is told by the host of the alias."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from pexpolicy import (
    Alias,
    Continue,
    PluginSettings,
    RegistrationAliasRequest,
    Reject,
    hookimpl,
)

_DOMAIN = re.compile(r"@?(\*\.)?[^\s@*/:]+")


class Domains:
    """Lets devices register whose alias is in one of the allowed domains."""

    class Settings(PluginSettings):
        """``[plugins.domains.settings]``."""

        allowed: list[str]
        """Domains: ``example.com`` or ``@example.com`` for itself, ``*.example.com`` for what is below it."""

        otherwise: Literal["reject", "abstain"] = "reject"
        """What becomes of all other aliases: refused, or left to the next plugin."""

        @field_validator("allowed")
        @classmethod
        def _domains(cls, allowed: list[str]) -> list[str]:
            for entry in allowed:
                if not _DOMAIN.fullmatch(entry.strip()):
                    msg = f"{entry!r} is no domain; write example.com, @example.com or *.example.com"
                    raise ValueError(msg)
            return [entry.strip().removeprefix("@").rstrip(".").lower() for entry in allowed]

    def __init__(self, settings: Settings) -> None:
        self._domains = frozenset(d for d in settings.allowed if not d.startswith("*."))
        self._parents = frozenset(d[2:] for d in settings.allowed if d.startswith("*."))
        self._rejects = settings.otherwise == "reject"

    @hookimpl
    async def registration_alias(
        self, request: RegistrationAliasRequest
    ) -> Continue | Reject | None:
        """Allow the alias, refuse it, or leave it to others."""
        if self._allows(request.alias):
            return _ALLOWED
        return _REFUSED if self._rejects else None

    def _allows(self, alias: Alias) -> bool:
        host = alias.host
        if host in self._domains:
            return True
        while host and self._parents:
            host = host.partition(".")[2]
            if host in self._parents:
                return True
        return False


_ALLOWED = Continue(reason="the domain is allowed to register")
_REFUSED = Reject(reason="the domain is not allowed to register")
