"""What a search of the index asks for, from and to the query of a URL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Self

from pexpolicy import Alias
from pexpolicy.audit.redaction import Personal
from pexpolicy_console.index.lines import ORDINARY, common_reason, word
from pexpolicy_console.periods import moment

_WORDS: Mapping[str, str] = {
    "room": "m",
    "node": "n",
    "instance": "i",
    "plugin": "p",
    "outcome": "o",
    "rule": "u",
    "reason": "w",
    "endpoint": "e",
    "action": "t",
    "decided_by": "d",
    "event": "v",
    "result": "r",
    "location": "g",
    "protocol": "x",
    "tenant": "y",
    "policy": "h",
    "environment": "z",
}
"""The letter of the words of each filter that compares a whole text."""

MAX_SLOWER_MS = 86_400_000
AROUND = timedelta(minutes=5)
"""Before and after the time of ``around``."""


TermsWith = Callable[[str, str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Query:
    """The filters of a search; an empty one matches each line.

    ``alias`` matches the called and the calling one, in any spelling; a name without a host
    matches the part before the @. It and ``caller`` match a display name, each of its parts and
    the caller's IP address too. ``alias`` matches the room and the node's address as well, and
    each part of all of these, with or without accents, unless it is a whole address. ``text``
    ending in * matches beginnings, also of rooms, rules and reasons.
    """

    alias: str = ""
    called: str = ""
    caller: str = ""
    room: str = ""
    node: str = ""
    instance: str = ""
    environment: str = ""
    plugin: str = ""
    outcome: str = ""
    rule: str = ""
    reason: str = ""
    endpoint: str = ""
    action: str = ""
    decided_by: str = ""
    event: str = ""
    result: str = ""
    location: str = ""
    protocol: str = ""
    tenant: str = ""
    policy: str = ""
    since: str = ""
    until: str = ""
    around: str = ""
    """A time in place of both, such as ``14:05``, the last one that was."""
    zone: str = ""
    """The zone of these times; UTC if it is empty."""
    slower: str = ""
    """Milliseconds."""
    requests: str = ""
    """Each request has a row, not each call."""

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Self:
        """Return the filters in the query of a URL; unknown names are ignored."""
        names = {field.name for field in fields(cls)}
        return cls(**{k: v.strip()[:200] for k, v in params.items() if k in names and v.strip()})

    def params(self, **changes: str) -> dict[str, str]:
        """Return the query of the URL, with changed filters."""
        changed = replace(self, **changes) if changes else self
        found = {field.name: str(getattr(changed, field.name)) for field in fields(self)}
        if not changed.since and not changed.until and not changed.around:
            found["zone"] = ""
        return {name: value for name, value in found.items() if value}

    @property
    def is_of_all(self) -> bool:
        """Whether nothing but a period is asked for."""
        return not self.params(since="", until="", around="", zone="", requests="")

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
        return " AND ".join(f"({' OR '.join(sorted(set(map(_quoted, one))))})" for one in groups)

    def _groups(self, personal: Personal, terms_with: TermsWith) -> Iterator[Iterable[str]]:
        """Yield groups of words: a line matches if it has a word of each. One that ends in *
        stands for all that begin so.
        """
        for name, kinds in (("alias", "lcnm"), ("called", "l"), ("caller", "c")):
            if text := getattr(self, name):
                alternatives = [*_spellings(text), personal(Alias(text)) or text]
                terms = [_term(kind, one) for kind in kinds for one in alternatives]
                if name == "alias" and not _is_whole(text):
                    terms += (one for kind in kinds for one in terms_with(kind, text))
                yield terms
        if self.plugin and self.outcome and self.outcome not in ORDINARY:
            yield [_term("q", f"{self.plugin}/{self.outcome}")]
        for name, kind in _WORDS.items():
            if text := getattr(self, name):
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
    return f"{word(kind, text[:-1])}*" if text.endswith("*") else word(kind, text)


def _quoted(term: str) -> str:
    # A word has no quotation marks.
    return f'"{term[:-1]}"*' if term.endswith("*") else f'"{term}"'
