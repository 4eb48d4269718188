"""The pages of the console, in the order of the navigation."""

from __future__ import annotations

from pexpolicy_console.pages import decision, decisions, nodes, overview, stream
from pexpolicy_console.pages.page import Page

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *decisions.PAGES,
    *stream.PAGES,
    *decision.PAGES,
    *nodes.PAGES,
)
