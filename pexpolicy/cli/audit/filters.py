"""Filters of audit lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

from pexpolicy.models.alias import Alias

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DAYS = {"today": 0, "yesterday": 1}


def parse_time(
    text: str, now: datetime, *, utc: bool = False, zone: tzinfo | None = None
) -> datetime:
    """Parse ``2026-11-26T09:00``, ``09:00`` (today), ``today``, ``yesterday``, or ``2h`` ago.

    Times without a zone are local, of ``zone``, or UTC with ``utc``. Raises ``ValueError``.
    """
    zone = UTC if utc else zone
    try:
        if (span := _SPAN.fullmatch(text)) is not None:
            return now - timedelta(**{_UNITS[span[2]]: float(span[1])})
        today = now.astimezone(zone).date()
        if text in _DAYS:
            parsed = datetime.combine(today - timedelta(days=_DAYS[text]), time())
        elif re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
            parsed = datetime.combine(today, time.fromisoformat(text))
        else:
            parsed = datetime.fromisoformat(text)
        if zone is not None and parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=zone)
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = (
            f"{text!r} is not a time: write 2026-11-26T09:00, 09:00, today, yesterday, or 15m, 2h "
            "or 3d for that long ago"
        )
        raise ValueError(msg) from None


@dataclass(frozen=True)
class Filters:
    """What a line must match; ``None`` matches any line."""

    alias: str | None = None
    """An alias of the request in any spelling. A name without a host also matches the user part."""
    since: datetime | None = None
    until: datetime | None = None
    endpoint: str | None = None
    decided_by: str | None = None
    action: str | None = None
    event: str | None = None
    peer: str | None = None
    node: str | None = None
    """The ``node_ip`` of the request."""
    outcome: str | None = None
    """The outcome of a step, such as ``failed``."""
    plugin: str | None = None
    """The plugin of a step."""
    text: str | None = None
    """Text anywhere in the line, in any case."""
    hash_personal: Callable[[str], str | None] | None = None
    """Returns what is written for an alias, if aliases are hashed."""

    def match(self, event: Mapping[str, Any], content: bytes) -> bool:
        """Return whether a line matches all filters."""
        return (
            self._matches_time(event)
            and self._matches_fields(event)
            and self._matches_steps(event)
            and (self.text is None or self.text.casefold() in content.decode().casefold())
            and (self.node is None or self.node in _values(event, "node_ip"))
            and (self.alias is None or self._matches_alias(event, self.alias))
        )

    def _matches_time(self, event: Mapping[str, Any]) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            at = datetime.fromisoformat(event["timestamp"])
        except (KeyError, TypeError, ValueError):
            return False
        if at.tzinfo is None:  # not written by us: our times are in UTC too
            at = at.replace(tzinfo=UTC)
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def _matches_fields(self, event: Mapping[str, Any]) -> bool:
        required = {
            "endpoint": self.endpoint,
            "decided_by": self.decided_by,
            "action": self.action,
            "event": self.event,
            "peer": self.peer,
        }
        return all(
            event.get(name) == value for name, value in required.items() if value is not None
        )

    def _matches_steps(self, event: Mapping[str, Any]) -> bool:
        if self.outcome is None and self.plugin is None:
            return True
        steps = event.get("steps")
        return any(
            (self.outcome is None or step.get("outcome") == self.outcome)
            and (self.plugin is None or step.get("plugin") == self.plugin)
            for step in (steps if isinstance(steps, list) else ())
            if isinstance(step, dict)
        )

    def _matches_alias(self, event: Mapping[str, Any], text: str) -> bool:
        alias = Alias(text)
        required = {alias, text}
        if self.hash_personal is not None and (hashed := self.hash_personal(alias)) is not None:
            required.add(hashed)
        return any(
            value in required
            or (found := Alias(value)) in required
            or (alias.bare and found.user == alias.user)
            for value in _values(event, "alias")
        )


def _values(event: Mapping[str, Any], suffix: str) -> Iterator[str]:
    """Yield the texts of request parameters whose name ends in ``suffix``.

    Anything may be in a line that another program wrote, and it must not end a search.
    """
    request = event.get("request")
    for name, value in (request if isinstance(request, dict) else {}).items():
        if name.lower().replace("-", "_").endswith(suffix):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield item
