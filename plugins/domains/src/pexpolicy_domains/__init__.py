"""Plugin ``domains``: registration by the domain of the alias."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator
from typing_extensions import override

from pexpolicy import (
    Alias,
    ConfigWarning,
    Continue,
    Plugin,
    PluginSettings,
    RegistrationAliasRequest,
    Reject,
)
from pexpolicy.files import named_changes

_LABEL = r"[\w-]+"
_DOMAIN = re.compile(rf"@?(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")
MAX_DOMAIN = 253
"""Characters of the longest name in DNS; longer hosts match no parent domain."""


def _domain(entry: str) -> str:
    """Return a domain in the normal form of an alias's host."""
    if not _DOMAIN.fullmatch(entry.strip()):
        msg = f"{entry!r} is not a domain; write example.com, @example.com or *.example.com"
        raise ValueError(msg)
    return entry.strip().removeprefix("@").rstrip(".").lower()


Domain = Annotated[str, AfterValidator(_domain)]


class Settings(PluginSettings):
    """``[plugins.domains.settings]``."""

    allowed: list[Domain]
    """``example.com`` or ``@example.com`` for itself, ``*.example.com`` for its subdomains."""

    otherwise: Literal["reject", "abstain"] = "reject"
    """Reject all other aliases, or leave them to the next plugin."""


class Domains(Plugin[Settings]):
    """Allows devices with an alias in one of the allowed domains to register."""

    def __init__(self, settings: Settings) -> None:
        self._domains = frozenset(d for d in settings.allowed if not d.startswith("*."))
        self._parents = frozenset(d[2:] for d in settings.allowed if d.startswith("*."))
        self._rejects = settings.otherwise == "reject"

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of settings that allow no device, or very many."""
        key = ("allowed",)
        if not self._domains and not self._parents and self._rejects:
            yield ConfigWarning(key, "is empty: no device can register")
        for parent in sorted(p for p in self._parents if "." not in p):
            yield ConfigWarning(
                key, f"*.{parent} lets every device register whose domain ends in .{parent}"
            )

    @override
    def changes_since(self, previous: Domains) -> Iterable[str]:
        """Name the domains that were added and removed."""
        return named_changes(previous._names(), self._names())

    def _names(self) -> dict[str, None]:
        return dict.fromkeys((*self._domains, *(f"*.{parent}" for parent in self._parents)))

    @override
    async def registration_alias(
        self, request: RegistrationAliasRequest
    ) -> Continue | Reject | None:
        """Allow the alias, reject it, or abstain."""
        if self._allows(request.alias):
            return _ALLOWED
        return _REFUSED if self._rejects else None

    def _allows(self, alias: Alias) -> bool:
        if not alias.user or "@" in alias.user:
            # Two domains in one alias: the domain of the device is ambiguous.
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
