"""The page Nodes: which Conferencing Nodes call, are silent or are refused."""

from __future__ import annotations

from aiohttp import web

from pexpolicy_console.context import console_of
from pexpolicy_console.pages.page import Page, render
from pexpolicy_console.server_client import NodeState, ServerUnavailable

SILENT_S = 3600.0
"""Time without a call from which on a node is silent, as for ``pexpolicy status``."""


async def nodes(request: web.Request) -> web.StreamResponse:
    """Show each node with its last call and its last refusal."""
    found: list[NodeState] = []
    problem = ""
    try:
        found = (await console_of(request).server.status()).nodes
    except ServerUnavailable as error:
        problem = str(error)
    return render(request, "nodes.html", nodes=found, problem=problem, silent=SILENT_S)


PAGES = (Page("/nodes", nodes, "Nodes"),)
