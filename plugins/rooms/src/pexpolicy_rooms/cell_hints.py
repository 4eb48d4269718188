"""Hints for aliases, PINs and dates that a spreadsheet has changed, or that lead to no room."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta

from pexpolicy import Alias

_SPREADSHEET_EPOCH = date(1899, 12, 30)
_ROUNDED = re.compile(r"\d+([.,]\d+)?E\+\d+", re.IGNORECASE)
_PATTERN = re.compile(r"[\^$\\(){}|]|\*@|@\*|\.\*|\A\*\Z")
_LINK = re.compile(r"[a-z][a-z0-9+.-]*://|mailto:", re.IGNORECASE)
_TOTAL = re.compile(
    r"(grand|sub)?[- ]?(totals?|sum|summe|gesamt|insgesamt|zwischensumme|anzahl|count|nombre|somme"
    r"|totaux|totale?|stand|page|seite|end|ende|fin)[:.]?",
    re.IGNORECASE,
)
"""The first word of a line below a table, in English, German or French."""
_PARTS_OF_NUMBER = re.compile(r"\+\d{1,3}( \(?\d+\)?)+")
"""Such as ``+47 22 33 44 55``: no alias is a country code only."""
_QUOTES = re.compile("[\u201c\u201d\u201e\u00ab\u00bb]")
_DASH = re.compile("[\u2010\u2011\u2012\u2013\u2014\u2212]")
_LONE = frozenset("/,;|&+-")
_TEXT_COLUMN = "format the column as text, and write it again"
_NO_LIMIT = re.compile(
    r"-+|n/?a|none|never|unlimited|always|nie|unbegrenzt|immer|kein[es]?|ingen|aldri|jamais|\u221e",
    re.IGNORECASE,
)
_DATES = {
    r"(\d{1,2})\.(\d{1,2})\.(\d{4}|\d{2})": "dmy",
    r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})": "ymd",
    r"(\d{4})-(\d{1,2})-(\d{1,2})": "ymd",
}
"""Dates of which it is certain which number is the day; ``12/11/2030`` is none."""
_DAYS = range(20_000, 80_000)
"""Numbers that are days of the years 1954 to 2119 in a spreadsheet."""


def separator_problem(aliases: list[str]) -> str:
    """Return what is wrong with aliases that are not separated by blanks, or nothing."""
    if _PARTS_OF_NUMBER.fullmatch(" ".join(aliases)):
        return f"write a number without blanks, as in {re.sub('[^+0-9]', '', ''.join(aliases))}"
    for text in aliases:
        if "," in text and _ROUNDED.fullmatch(text):
            return f"{text!r} is a number that a spreadsheet has rounded: {_TEXT_COLUMN}"
        if "," in text or "|" in text or text in _LONE or _is_cut(text):
            return f"write blanks between aliases, and nothing else: {text!r} is no alias"
    return ""


def _is_cut(text: str) -> bool:
    """Return whether a part after a semicolon is no parameter of a URI, and would be lost."""
    return any("=" not in part for part in text.split(";")[1:])


def words_warning(aliases: Sequence[str], name: object) -> str:
    """Return a warning about aliases that are the words of one name, or nothing."""
    text = " ".join(aliases)
    is_name = text.casefold() == str(name).casefold()
    are_words = all(word.isalpha() and word[0].isupper() for word in aliases)
    if not aliases[1:] or not (is_name or are_words):
        return ""
    return (
        f"{text!r} is {len(aliases)} aliases, as blanks separate them: write one without blanks, "
        f"such as {'-'.join(aliases).lower()}, if it is one"
    )


def alias_warning(alias: Alias) -> str:
    """Return why no call may have this alias, or nothing."""
    text = alias.raw
    hidden = next((f"U+{ord(c):04X}" for c in text if not c.isprintable()), "")
    other = _DASH.search(text)
    dash = "" if other is None else f"U+{ord(other[0]):04X}"
    found = {
        "is a link: write the alias alone, such as room@example.com": _LINK.match(text),
        "has < or >: write the address alone": "<" in text or ">" in text,
        "has quotes, and they are part of it: leave them out": _QUOTES.search(text),
        f"has an invisible character, {hidden}: write it again": hidden,
        f"has a dash, {dash}, that is no hyphen: write - if that is what people dial": dash,
        "looks like the total of a table: delete the line if it is no room": _TOTAL.fullmatch(text),
        "has two @": "@" in alias.user,
        "is percent-encoded: write @ for %40": "%40" in text,
        f"is a number with decimals: {_TEXT_COLUMN}": re.fullmatch(r"\d+[.,]0+", text),
        "has a blank: if it is several aliases, list each in aliases": " " in text.strip(),
        "has a /: if it is two aliases, write a blank between them": "/" in text,
        f"is a number that a spreadsheet has rounded: {_TEXT_COLUMN}": _ROUNDED.fullmatch(text),
        "matches only itself: a pattern belongs in a rule of the plugin rules": _PATTERN.search(
            text
        ),
    }
    return next((f"{text!r} {why}" for why, is_so in found.items() if is_so), "")


def pin_hint(pin: object) -> str:
    """Return how a PIN was changed, after a semicolon, without a digit of it; or nothing."""
    if not isinstance(pin, str):
        return ""
    hints = {
        _ROUNDED.pattern: f"; a spreadsheet has rounded it: {_TEXT_COLUMN}",
        r"\d{1,3}": f"; if a spreadsheet has removed its leading zeros, {_TEXT_COLUMN}",
        r"-+|(none|null|nil|n/?a|no|kein[es]?|ingen|aucun|sans)\.?": "; leave it empty for no PIN",
        "#.*": "; it is an error of the spreadsheet, or its column was too narrow",
        "[='\N{RIGHT SINGLE QUOTATION MARK}].*": "; write it without = and quotes",
        r"[\d\s.,:/'-]+#?": f"; write digits only: {_TEXT_COLUMN}",
        r"[A-Za-z]{3,9}[-. ]\d{2,4}|\d{1,2}[-. ][A-Za-z]{3,9}([-. ]\d{2,4})?": (
            f"; a spreadsheet has made it a date: {_TEXT_COLUMN}"
        ),
        r"[^\d]*[\d\s]+\W*": "; write the digits 0 to 9 alone",
    }
    return next(
        (hint for form, hint in hints.items() if re.fullmatch(form, pin, re.IGNORECASE)), ""
    )


def number_hint(written: object) -> str:
    """Return how to write a number with separators of thousands, after a semicolon, or nothing."""
    found = re.fullmatch(
        r"(\d{1,3}(?:[\s.,'\N{RIGHT SINGLE QUOTATION MARK}]\d{3})+)(?:[.,]0+)?", str(written)
    )
    return f"; write {re.sub(r'[^0-9]', '', found[1])}, digits only" if found else ""


def date_hint(written: object) -> str:
    """Return the date that was probably meant, after a semicolon, or nothing."""
    text = str(written).strip()
    if _NO_LIMIT.fullmatch(text):
        return "; leave it out for no limit"
    number = re.fullmatch(r"(\d+)(?:[.,]\d+)?", text)
    if number and number[1].isdecimal() and int(number[1]) in _DAYS:
        meant = _SPREADSHEET_EPOCH + timedelta(days=int(number[1]))
        return f"; a spreadsheet has made it a number: format the column as text, and write {meant}"
    day, _, clock = text.partition(" ")
    for pattern, order in _DATES.items():
        if found := re.fullmatch(pattern, day):
            numbers = dict(zip(order, map(int, found.groups()), strict=True))
            year = numbers["y"] + (2000 if len(str(numbers["y"])) < 3 else 0)  # noqa: PLR2004 - two digits
            with suppress(ValueError):
                return f"; write {date(year, numbers['m'], numbers['d'])}{_clock(clock)}"
    return ""


def _clock(written: str) -> str:
    """Return an hour such as ``6:00 PM`` as the end of a time, or nothing."""
    found = re.fullmatch(r"(\d{1,2})(?:[:.](\d\d))?(?::\d\d)?\s*([ap]m)?", written.strip().lower())
    if found is None:
        return ""
    hour = int(found[1]) if found[3] is None else int(found[1]) % 12 + 12 * (found[3] == "pm")
    return f"T{hour:02}:{found[2] or '00'}"
