"""Times in the lines and JSON objects of logs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pexpolicy.models.request import POLICY_PREFIX

_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?\d*(?:Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_CLF_TIME = re.compile(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}")
_HAPROXY_TIME = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)(?:\.\d+)?\]")
_TIME_KEY = re.compile(r"time|date|msec|epoch|(?:^|_)ts$", re.IGNORECASE)
_FIRST, _LAST = 946_684_800, 4_102_444_800
"""The years 2000 and 2100 in seconds since 1970."""


def record_time(record: Mapping[str, Any]) -> datetime | None:
    """Return the time of a JSON object: the first text with a time, or a number since 1970 in
    seconds, or in thousandths, millionths or billionths of them, of a key such as ``ts``.
    """
    values = [*leaves(record)]
    for _, value in values:
        if isinstance(value, str) and POLICY_PREFIX not in value:
            found = parse_time(value)
            if found is not None:
                return found
    return next((at for key, value in values if (at := _epoch_time(key, value)) is not None), None)


def _epoch_time(key: str, value: object) -> datetime | None:
    if not _TIME_KEY.search(key) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    while math.isfinite(seconds) and seconds > 10 * _LAST:
        seconds /= 1000
    return datetime.fromtimestamp(seconds, UTC) if _FIRST < seconds < _LAST else None


def leaves(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON object, at any depth but in lists."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield key, value


def parse_time(text: str, zone: Any = None) -> datetime | None:
    """Return the first time in a text; one without an offset is in ``zone``, or local.

    ``None`` for a text without a time.
    """
    text = text.partition(POLICY_PREFIX)[0]
    try:
        if (common := _CLF_TIME.search(text)) is not None:
            return datetime.strptime(common[0], "%d/%b/%Y:%H:%M:%S %z")
        if (proxy := _HAPROXY_TIME.search(text)) is not None:
            found = datetime.strptime(proxy[1], "%d/%b/%Y:%H:%M:%S")  # noqa: DTZ007 - local
        elif (iso := _ISO_TIME.search(text)) is not None:
            found = datetime.fromisoformat(iso[0].replace(",", "."))
        else:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
