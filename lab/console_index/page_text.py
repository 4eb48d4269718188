"""What a page of the console says, and which of its figures were counted."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import chain, product
from xml.etree import ElementTree as ET

EMPTY = ("br", "hr", "img", "input", "link", "meta", "wbr")
CELLS = ("td", "th", "dt", "dd", "li", "text")
SAID = ("title", "aria-label", "data-label", "data-counts")
"""Attributes that people or screen readers get."""
TIMES = {"clock": "{:%H:%M}", "day": "{0.day} {0:%b}", "full": "{0.day} {0:%b}, {0:%H:%M}"}
"""Of ``time`` elements, by their attribute ``data-as``."""
SLACK = 1.26
"""Between a number that was interpolated and the true one: bounds are at most 25 % apart."""
_XPATH = {
    " > ": "/",
    r" (?![^[]*\])": "//",
    r"(^|/)(?=[.#[])": r"\1*",
    r"\.([\w-]+)": r"[@_\1]",
    r"#([\w-]+)": r"[@id='\1']",
    r"\[([\w-]+)=([^]]+)\]": r"[@\1='\2']",
    r":(\d)": r"[\1]",
}
"""Of parts of CSS; a class is an attribute of its own."""
_NUMBER = re.compile(r"@?\d(?:[\d,.]*\d)?(?: (?:s|min|h|d|Bytes|KiB|MiB)\b)?")
_OF_TEXT = re.compile(r"\b(?:24 hours|14 days|1 hour|25 %)")
"""Numbers that are no figures."""
Row = str | int | float | None | tuple["Row", ...] | frozenset["Row"]
"""Figures and names that stand in a text in this order, without other digits; … stands for any
text, a ``float`` for a number that was interpolated, and a set has several of which one is shown.
"""


class Difference(AssertionError):
    """A page says something else than what was counted, or what was not counted."""


class Page:
    """The elements of a page; those whose figures were expected are known."""

    def __init__(self, content: str) -> None:
        builder = _Builder()
        lines = (f"<li>{line}</li>" for line in content.splitlines())
        is_html = content.startswith("<!")
        builder.feed(content if is_html else f"<html><body>{''.join(lines)}</body></html>")
        (self._body,) = builder.tree.close().iter("body")
        self._known = set[object]()

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements of a selector of CSS, or of an attribute after an @;
        times in them are @ with their seconds since 1970.
        """
        name, found = self._find(selector)
        return [
            " ".join((one.attrib[name] if name else "".join(_parts(one))).split()) for one in found
        ]

    def place(self, selector: str, name: str) -> int:
        """Return which of the elements has a text."""
        shown = self.texts(selector)
        return next((place for place, text in enumerate(shown) if name in text), len(shown))

    def expect(self, selector: str, counted: Iterable[Row] | None) -> None:
        """Compare the texts of a selector with what was counted, which is ``None`` for names."""
        if counted is not None:
            known, shown = [*counted], self.texts(selector)
            wrong = [pair for pair in zip(known, shown, strict=False) if not _fits(*pair)]
            rows = (f"\n  counted {one!r}\n  shown   {other!r}" for one, other in wrong[:5])
            if wrong or len(known) != len(shown):
                raise Difference(f"{len(known)} counted, {len(shown)} shown{''.join(rows)}")
        name, found = self._find(selector)
        self._known.update((one, name) if name else part for one in found for part in one.iter())

    def expect_no_more(self, others: frozenset[str]) -> None:
        """Raise ``Difference`` for numbers that were not expected and are no other ones."""
        for text in self._unknown(self._body):
            if unknown := {*_NUMBER.findall(_OF_TEXT.sub("", text))} - others:
                raise Difference(f"{unknown} of {text!r} were not counted")

    def _find(self, selector: str) -> tuple[str, list[ET.Element]]:
        path, _, name = selector.partition("@")
        for css, xpath in _XPATH.items():
            path = re.sub(css, xpath, path)
        found = self._body.findall(f".//{path}")
        return name, [one for one in found if not name or name in one.attrib]

    def _unknown(self, one: ET.Element) -> Iterator[str]:
        if one.tag == "time" and one not in self._known:
            yield _time_of(one)
        elif one not in self._known:
            yield from (one.get(name, "") for name in SAID if (one, name) not in self._known)
            yield one.text or ""
            for child in one:
                yield from self._unknown(child)
                yield child.tail or ""


class _Builder(HTMLParser):
    """Builds a tree in which each class is an attribute as well."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = ET.TreeBuilder()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.tree.start(tag, known | {f"_{name}": "" for name in known.get("class", "").split()})
        if tag in EMPTY:
            self.tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tree.end(tag)

    def handle_data(self, data: str) -> None:
        self.tree.data(data)


def _parts(one: ET.Element) -> Iterator[str]:
    if one.tag == "time":
        yield _time_of(one)
        return
    yield one.text or ""
    for child in one:
        yield " " if child.tag in CELLS else ""
        yield from _parts(child)
        yield child.tail or ""


def _time_of(one: ET.Element) -> str:
    at = datetime.fromisoformat(one.attrib["datetime"]).astimezone(UTC)
    shown = TIMES.get(one.get("data-as", ""), "{:%Y-%m-%d %H:%M:%S}Z").format(at)
    if not one.text == one.get("title", shown) == shown:
        raise Difference(f"{one.text!r} is shown of {one.attrib['datetime']}")
    return f"@{int(at.timestamp())}"


def _fits(counted: Row, shown: str) -> bool:
    for parts in _ways(counted):
        found = re.fullmatch(r"\D*".join(("", *map(_pattern, parts), "")), shown)
        interpolated = (part for part in parts if isinstance(part, float))
        if found and all(map(_is_near, found.groups(), interpolated)):
            return True
    return False


def _ways(row: Row) -> Iterator[Sequence[str | float]]:
    """Yield the parts of each way to show a row."""
    if isinstance(row, frozenset):
        yield from chain.from_iterable(map(_ways, row))
    elif isinstance(row, tuple):
        yield from ([*chain.from_iterable(parts)] for parts in product(*map(_ways, row)))
    else:
        yield [] if row is None else [row]


def _pattern(part: str | float) -> str:
    text = f"{part:,}" if isinstance(part, int) else part
    pattern = r"([\d.,]+)" if isinstance(text, float) else re.escape(text).replace("…", ".*")
    # No figure is a part of another one.
    return rf"(?<![\d.,]){pattern}(?![.,]?\d)" if pattern[:1] in "(0123456789" else pattern


def _is_near(shown: str, counted: float) -> bool:
    """Return whether a number is within the bounds, and its rounding, of the counted one."""
    value, rounding = float(shown.replace(",", "")), 0.006 + 0.05 * min(counted, 1)
    return counted / SLACK - rounding <= value <= counted * SLACK + rounding


def at(moment: float) -> str:
    """Return the text of a time in milliseconds."""
    return f"@{int(moment // 1000)}"
