"""URL templates: addresses whose ``{name}`` parts are filled with encoded values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from string import Formatter
from urllib.parse import quote

from pexpolicy_sources.rows import Value

_WRITTEN = "/?&=%:@!$'()*+,;~"
"""Characters of the template that stay as they are."""
_FOREIGN = re.compile(r"(?<=[/=])([:$][A-Za-z]\w*|<\w+>|%s|%\(\w+\)s)(?=[/&?]|\Z)")
"""Parameters as other programs write them."""

Parts = tuple[tuple[str, str | None], ...]
"""Encoded text and the name of the parameter after it, if there is one."""


class UrlTemplate:
    """A path and a query, such as ``/rooms/{alias}?expand=1``.

    Values are percent-encoded, so none adds a segment, a parameter or another host. Raises
    ``ValueError`` for a template with other ``parameters``.
    """

    def __init__(self, written: str, parameters: Collection[str]) -> None:
        if not written.startswith("/") or written.startswith("//"):
            raise ValueError("is not a path: write one such as /rooms?alias={alias}")
        if "#" in written:
            raise ValueError("has a #: a server never gets what follows it")
        if (other := _FOREIGN.search(written)) is not None:
            advice = "all rows are asked for: leave it out"
            if parameters:
                advice = f"write one in braces, as in {{{next(iter(parameters))}}}"
            raise ValueError(f"has {other[1]}, which is no parameter here: {advice}")
        path, mark, query = written.partition("?")
        self._segments = [_parts(segment, parameters) for segment in path[1:].split("/")]
        self._mark = mark
        self._query = _parts(query, parameters)
        found = (parts for parts in (*self._segments, self._query))
        self._names = {name for parts in found for _, name in parts if name is not None}

    def fill(self, values: Mapping[str, Value]) -> str | None:
        """Return path and query; ``None`` where a value would make another path of it.

        ``..`` is the folder above, and an empty value the list of all, also in the query where no
        parameter has a value.
        """
        if self._names and all(values[name] in (None, "") for name in self._names):
            return None
        path = ""
        for parts in self._segments:
            segment = _filled(parts, values)
            if any(name is not None for _, name in parts) and segment in ("", ".", ".."):
                return None
            path += f"/{segment}"
        return f"{path}{self._mark}{_filled(self._query, values)}"


def _parts(written: str, parameters: Collection[str]) -> Parts:
    try:
        parsed = list(Formatter().parse(written))
    except ValueError:
        raise ValueError("has a single { or }: write {{ or }} for the character") from None
    for _, name, form, conversion in parsed:
        if name is not None and (name not in parameters or form or conversion):
            there = ", ".join(f"{{{known}}}" for known in parameters) or "none"
            raise ValueError(f"has the parameter {{{name}}}; there is: {there}")
    return tuple((quote(text, safe=_WRITTEN), name) for text, name, _, _ in parsed)


def _filled(parts: Parts, values: Mapping[str, Value]) -> str:
    return "".join(text + ("" if name is None else _encoded(values[name])) for text, name in parts)


def _encoded(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else quote(str(value), safe="")
