"""Filters of audit lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pexpolicy.models.alias import Alias

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str, now: datetime) -> datetime:
    """A time: ``2026-11-26T09:00``, local unless it says otherwise, or ``15m``, ``2h``, ``3d`` ago.

    Raises ``ValueError``.
    """
    try:
        if (span := _SPAN.fullmatch(text)) is not None:
            return now - timedelta(**{_UNITS[span[2]]: float(span[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"{text!r} is no time: write 2026-11-26T09:00, or 15m, 2h or 3d for so long ago"
        raise ValueError(msg) from None


@dataclass(frozen=True)
class Filters:
    """What a line must be like; what is ``None`` does not matter."""

    alias: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    endpoint: str | None = None
    decided_by: str | None = None
    action: str | None = None
    event: str | None = None
    outcome: str | None = None
    """What came of a step, such as ``failed``."""
    plugin: str | None = None
    """A plugin that was asked."""
    text: str | None = None
    """Text that stands anywhere in the line, in any case."""
    personal: Callable[[str], str | None] | None = None
    """What stands in the place of an alias, where aliases are hashed."""

    def fit(self, event: Mapping[str, Any], content: bytes) -> bool:
        """True for a line that is wanted."""
        return (
            self._fits_time(event)
            and self._fits_fields(event)
            and self._fits_steps(event)
            and (self.text is None or self.text.casefold() in content.decode().casefold())
            and (self.alias is None or self._fits_alias(event, self.alias))
        )

    def _fits_time(self, event: Mapping[str, Any]) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            at = datetime.fromisoformat(event["timestamp"])
        except (KeyError, TypeError, ValueError):
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def _fits_fields(self, event: Mapping[str, Any]) -> bool:
        wanted = {
            "endpoint": self.endpoint,
            "decided_by": self.decided_by,
            "action": self.action,
            "event": self.event,
        }
        return all(event.get(name) == value for name, value in wanted.items() if value is not None)

    def _fits_steps(self, event: Mapping[str, Any]) -> bool:
        if self.outcome is None and self.plugin is None:
            return True
        return any(
            (self.outcome is None or step.get("outcome") == self.outcome)
            and (self.plugin is None or step.get("plugin") == self.plugin)
            for step in event.get("steps") or ()
        )

    def _fits_alias(self, event: Mapping[str, Any], alias: str) -> bool:
        wanted = {Alias(alias), alias}
        if self.personal is not None and (written := self.personal(Alias(alias))) is not None:
            wanted.add(written)
        return any(
            given in wanted or Alias(given) in wanted
            for name, value in (event.get("request") or {}).items()
            if name.lower().replace("-", "_").endswith("alias")
            for given in (value if isinstance(value, list) else [value])
            if isinstance(given, str)
        )
