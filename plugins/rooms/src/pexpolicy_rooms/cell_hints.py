"""Hints for aliases, PINs and dates that a spreadsheet has changed, or that lead to no room."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, timedelta

from pexpolicy import Alias

_SPREADSHEET_EPOCH = date(1899, 12, 30)
_ROUNDED = re.compile(r"\d+([.,]\d+)?E\+\d+", re.IGNORECASE)
_PATTERN = re.compile(r"[\^$\\(){}|]|\*@|\.\*")
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
_LONE = frozenset("/,;|&+-")
_TEXT_COLUMN = "format the column as text, and write it again"
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


def alias_warning(alias: Alias) -> str:
    """Return why no call may have this alias, or nothing."""
    text = alias.raw
    hidden = next((f"U+{ord(c):04X}" for c in text if not c.isprintable()), "")
    found = {
        "is a link: write the alias alone, such as room@example.com": _LINK.match(text),
        "has < or >: write the address alone": "<" in text or ">" in text,
        "has quotes, and they are part of it: leave them out": _QUOTES.search(text),
        f"has an invisible character, {hidden}: write it again": hidden,
        "looks like the total of a table: delete the line if it is no room": _TOTAL.fullmatch(text),
        "has two @": "@" in alias.user,
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
        "#.*": "; it is an error of the spreadsheet, or its column was too narrow",
        "[='\N{RIGHT SINGLE QUOTATION MARK}].*": "; write it without = and quotes",
        r"[\d\s.,'-]+#?": f"; write digits only: {_TEXT_COLUMN}",
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
    if text.isdecimal() and int(text) in _DAYS:
        meant = _SPREADSHEET_EPOCH + timedelta(days=int(text))
        return f"; a spreadsheet has made it a number: format the column as text, and write {meant}"
    if found := re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", text):
        day, month, year = map(int, found.groups())
        with suppress(ValueError):
            return f"; write {date(year, month, day)}"
    return ""
