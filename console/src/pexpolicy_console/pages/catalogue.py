"""The pages of the console, in the order of the navigation."""

from __future__ import annotations

from pexpolicy_console.pages import (
    audit,
    configuration,
    decision,
    decisions,
    nodes,
    overview,
    plugins,
    rooms,
    rules,
    stream,
    try_request,
    who,
)
from pexpolicy_console.pages.page import Page

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *decisions.PAGES,
    *stream.PAGES,
    *decision.PAGES,
    *try_request.PAGES,
    *who.PAGES,
    *rooms.PAGES,
    *rules.PAGES,
    *plugins.PAGES,
    *nodes.PAGES,
    *configuration.PAGES,
    *audit.PAGES,
)
