"""What a search of the index asks for, from and to the query of a URL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlencode

from pexpolicy import Alias
from pexpolicy.audit.redaction import Personal
from pexpolicy_console.index.lines import ORDINARY, common_reason, word
from pexpolicy_console.periods import moment

FILTERS: Mapping[str, tuple[str, str]] = {
    "room": ("m", "Room"),
    "result": ("r", "Outcome"),
    "reason": ("w", "Reason"),
    "decided_by": ("d", "Decided by"),
    "rule": ("u", "Rule"),
    "plugin": ("p", "Plugin asked"),
    "outcome": ("o", "Outcome of a step"),
    "endpoint": ("e", "Request"),
    "action": ("t", "Action"),
    "event": ("v", "Event"),
    "location": ("g", "Location"),
    "protocol": ("x", "Protocol"),
    "tenant": ("y", "Tenant"),
    "node": ("n", "Node"),
    "environment": ("z", "Environment"),
    "instance": ("i", "Server"),
    "policy": ("h", "Policy hash"),
}
"""The letter of the words, and the title, of each filter that compares a whole text."""
_PERIOD = ("since", "until", "around", "zone")
NAMES = ("alias", "called", "caller", *FILTERS, *_PERIOD, "slower", "requests")
MAX_SLOWER_MS = 86_400_000
AROUND = timedelta(minutes=5)
"""Before and after the time of ``around``."""


TermsWith = Callable[[str, str], Iterable[str]]


class Query(dict[str, str]):
    """The filters of a search, each of ``NAMES`` an attribute too; an empty one matches each line.

    ``alias`` matches the called and the calling one, in any spelling; a name without a host
    matches the part before the @. It and ``caller`` match a display name, each of its parts and
    the caller's IP address too. ``alias`` matches the room and the node's address as well, and
    each part of all of these, with or without accents, unless it is a whole address. ``text``
    ending in * matches beginnings, also of rooms, rules and reasons.

    ``around`` is a time in place of ``since`` and ``until``, such as ``14:05``, the last one that
    was; ``zone`` that of these times, UTC without it; ``slower`` is in milliseconds; with
    ``requests`` each request has a row, not each call.
    """

    def __missing__(self, name: str) -> str:
        return ""

    def __getattr__(self, name: str) -> str:
        if name in NAMES:
            return self[name]
        raise AttributeError(name)

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Self:
        """Return the filters in the query of a URL; unknown names are ignored."""
        return cls({k: v.strip()[:200] for k, v in params.items() if k in NAMES and v.strip()})

    def params(self, **changes: str) -> dict[str, str]:
        """Return the query of the URL, with changed filters."""
        changed = {**self, **changes}
        if not any(changed.get(name) for name in _PERIOD[:3]):
            changed["zone"] = ""
        return {name: changed[name] for name in NAMES if changed.get(name)}

    def url(self, before: str = "", **changes: str) -> str:
        """Return the URL of this view, with changed filters, from ``before`` a line on."""
        params = self.params(**changes) | ({"before": before} if before else {})
        return f"/decisions?{urlencode(params)}" if params else "/decisions"

    def between(self, start: int, end: int) -> Query:
        """Return the same filters for a period in milliseconds."""
        moments = (datetime.fromtimestamp(at / 1000, UTC) for at in (start, end))
        since, until = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in moments)
        return Query(self, since=since, until=until, around="", zone="")

    @property
    def is_of_all(self) -> bool:
        """Whether nothing but a period is asked for."""
        return self.params().keys() <= {*_PERIOD, "requests"}

    def problems(self) -> list[str]:
        """Return what is wrong with the filters."""
        found = []
        for read in (self.period, self.slower_us):
            try:
                read()
            except ValueError as error:
                found.append(str(error))
        return found

    def period(self) -> tuple[int | None, int | None]:
        """Return the first moment and the end, in milliseconds since 1970; raise ``ValueError``."""
        if (at := moment(self.around, self.zone)) is not None:
            at -= timedelta(days=at > datetime.now(UTC))
            return _ms(at - AROUND), _ms(at + AROUND)
        return _ms(moment(self.since, self.zone)), _ms(moment(self.until, self.zone))

    def slower_us(self) -> int:
        """Return the duration in microseconds; raise ``ValueError``."""
        try:
            found = float(self.slower or 0)
        except ValueError:
            found = math.nan
        if not 0 <= found <= MAX_SLOWER_MS:
            msg = f"{self.slower!r} is not a number of milliseconds up to {MAX_SLOWER_MS:,}"
            raise ValueError(msg)
        return int(found * 1000)

    def expression(
        self, personal: Personal | None = None, terms_with: TermsWith = lambda *_: ()
    ) -> str:
        """Return the FTS5 expression; empty where all lines match.

        ``personal`` returns what the audit has for an alias, if that is not the alias;
        ``terms_with`` the words of a kind that have a text in them.
        """
        groups = self._groups(personal or (lambda text: text), terms_with)
        return " AND ".join(f"({' OR '.join(sorted(set(one)))})" for one in groups)

    def _groups(self, personal: Personal, terms_with: TermsWith) -> Iterator[Iterable[str]]:
        """Yield groups of words, of each of which a line has one; * stands for any end."""
        for name, kinds in (("alias", "lcnm"), ("called", "l"), ("caller", "c")):
            if text := self[name]:
                alternatives = [*_spellings(text), personal(Alias(text)) or text]
                terms = [_term(kind, one) for kind in kinds for one in alternatives]
                if name == "alias" and not _is_whole(text):
                    terms += (f'"{one}"' for kind in kinds for one in terms_with(kind, text))
                yield terms
        if self.plugin and self.outcome and self.outcome not in ORDINARY:
            yield [_term("q", f"{self.plugin}/{self.outcome}")]
        for name, (kind, _) in FILTERS.items():
            if text := self[name]:
                yield [_term(kind, common_reason(text) if name == "reason" else text)]


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)


def _spellings(text: str) -> list[str]:
    """Return an alias, the name that a guest typed, and any host where the text has none."""
    if text.endswith("*"):
        return [text]
    alias = Alias(text)
    return [alias, text] if alias.host else [alias, text, f"{alias}@*"]


def _is_whole(text: str) -> bool:
    """Return whether a text is an address, or says itself where it ends."""
    if text.endswith("*") or "." in (Alias(text).host or ""):
        return True
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _term(kind: str, text: str) -> str:
    """Return a word in quotation marks, of which it has none, with a * after it for any end."""
    return f'"{word(kind, text[:-1])}"*' if text.endswith("*") else f'"{word(kind, text)}"'
