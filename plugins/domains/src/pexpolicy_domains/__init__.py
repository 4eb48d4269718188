"""Registration by domain: who may register is told by the host of the alias."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator

from pexpolicy import (
    Alias,
    ConfigWarning,
    Continue,
    PluginSettings,
    RegistrationAliasRequest,
    Reject,
    hookimpl,
)

_LABEL = r"[^\s@*/:.\[\]]+"
_DOMAIN = re.compile(rf"@?(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")
MAX_DOMAIN = 253
"""Characters of the longest name in DNS; what is longer is below no domain."""


def _domain(entry: str) -> str:
    """A domain in the form in which the host of an alias stands."""
    if not _DOMAIN.fullmatch(entry.strip()):
        msg = f"{entry!r} is no domain; write example.com, @example.com or *.example.com"
        raise ValueError(msg)
    return entry.strip().removeprefix("@").rstrip(".").lower()


Domain = Annotated[str, AfterValidator(_domain)]


class Domains:
    """Lets devices register whose alias is in one of the allowed domains."""

    class Settings(PluginSettings):
        """``[plugins.domains.settings]``."""

        allowed: list[Domain]
        """``example.com`` or ``@example.com`` for itself, ``*.example.com`` for what is below."""

        otherwise: Literal["reject", "abstain"] = "reject"
        """What becomes of all other aliases: refused, or left to the next plugin."""

    def __init__(self, settings: Settings) -> None:
        self._domains = frozenset(d for d in settings.allowed if not d.startswith("*."))
        self._parents = frozenset(d[2:] for d in settings.allowed if d.startswith("*."))
        self._rejects = settings.otherwise == "reject"

    @hookimpl
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Settings that let nobody register, or half the world."""
        key = ("allowed",)
        if not self._domains and not self._parents and self._rejects:
            yield ConfigWarning(key, "is empty: no device can register")
        for parent in sorted(p for p in self._parents if "." not in p):
            yield ConfigWarning(
                key, f"*.{parent} lets every device register whose domain ends in .{parent}"
            )

    @hookimpl
    async def registration_alias(
        self, request: RegistrationAliasRequest
    ) -> Continue | Reject | None:
        """Allow the alias, refuse it, or leave it to others."""
        if self._allows(request.alias):
            return _ALLOWED
        return _REFUSED if self._rejects else None

    def _allows(self, alias: Alias) -> bool:
        if not alias.user or "@" in alias.user:
            # Two domains in one alias: which of them the device belongs to is anybody's guess.
            return False
        host = alias.host
        if host in self._domains:
            return True
        if not self._parents or len(host) > MAX_DOMAIN:
            return False
        while host:
            host = host.partition(".")[2]
            if host in self._parents:
                return True
        return False


_ALLOWED = Continue(reason="the domain is allowed to register")
_REFUSED = Reject(reason="the domain is not allowed to register")
