"""The alias: what was dialed, who calls, what registers, in one normal form."""

from __future__ import annotations

import re
from typing import Self, cast

_SCHEMES = frozenset(("sip", "sips", "h323", "tel"))
_NAME_ADDR = re.compile(r"<([^<>]*)>")
_PORT = re.compile(r":\d{1,5}\Z")
_VISUAL_SEPARATORS = str.maketrans("", "", "-.() ")


class Alias(str):
    """An alias in its normal form: ``sip:Bob@Example.com:5060;transport=tls`` is
    ``bob@example.com``.

    It is a string, so it compares, formats and serves as a dictionary key like one. The empty
    alias is false; a request without an alias has the empty one, never ``None``.

    The scheme (``sip``, ``sips``, ``h323``, ``tel``, any case), URI parameters, headers, port,
    display name, angle brackets and surrounding blanks go; letters become lower case, because
    Infinity matches aliases without regard to case. A leading ``+`` stays. Percent-encoding is not
    touched: whoever reads the URL decodes it, once.
    """

    __slots__ = ("host", "raw", "scheme", "user")

    raw: str
    """The text as it came, decoded from the URL and otherwise untouched."""
    scheme: str
    """``sip``, ``sips``, ``h323``, ``tel`` or empty."""
    user: str
    """The part before the ``@``, or the whole alias where there is none."""
    host: str
    """The part behind the ``@``, or empty; an IPv6 address keeps its brackets."""

    def __new__(cls, raw: str = "") -> Self:
        """The alias that a text stands for; an alias stands for itself."""
        if isinstance(raw, Alias):
            return cast("Self", raw)
        scheme, user, host = _split(raw)
        alias = super().__new__(cls, f"{user}@{host}" if host else user)
        alias.raw = raw
        alias.scheme = scheme
        alias.user = user
        alias.host = host
        return alias

    @property
    def bare(self) -> bool:
        """True for an alias without a host, such as ``engineering`` or ``+4712345678``."""
        return not self.host

    def __repr__(self) -> str:
        return f"Alias({self.raw!r})"

    def __reduce__(self) -> tuple[type[Alias], tuple[str]]:
        return (Alias, (self.raw,))


def _split(raw: str) -> tuple[str, str, str]:
    """Scheme, user and host of an alias, each in normal form."""
    text = raw.strip().lower()
    if text.isalnum():
        return "", text, ""
    if "<" in text and (enclosed := _NAME_ADDR.search(text)) is not None:
        text = enclosed[1].strip()
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _SCHEMES:
        text = rest
    else:
        scheme = ""
    user, at, host = text.rpartition("@")
    if not at:
        user, host = _without_port(_without_parameters(text)), ""
    else:
        host = _without_port(_without_parameters(host)).rstrip(".")
        user = user.partition(";")[0]
    if scheme == "tel":
        user = user.translate(_VISUAL_SEPARATORS)
    return scheme, user.strip(), host.strip()


def _without_parameters(text: str) -> str:
    if ";" in text or "?" in text:
        return text.partition(";")[0].partition("?")[0].strip()
    return text


def _without_port(text: str) -> str:
    """``host:5060`` and ``[::1]:5060`` lose the port; a bare IPv6 address is left whole."""
    if ":" in text and (text.count(":") == 1 or "]:" in text):
        return _PORT.sub("", text)
    return text
