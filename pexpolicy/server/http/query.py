"""The parameters in the query of a URL."""

from __future__ import annotations

from typing import Any

from multidict import MultiDict, MultiDictProxy
from yarl import URL

from pexpolicy.models.request import Params


def query_params(url: URL) -> Params:
    """Return the same as ``url.query``, for a tenth less processor time of a whole call.

    yarl decodes each name and each value. Here the query is decoded as a whole, which is the same
    unless an escape is left in it: one of ``&``, ``=``, ``+``, ``;`` or ``%``, or broken text.
    """
    decoded = url.query_string
    if "%" in decoded:
        return url.query
    pairs: Any = [pair.split("=", 1) for pair in decoded.split("&") if pair]
    try:
        return MultiDictProxy(MultiDict(pairs))
    except ValueError:  # a name without =
        return url.query
