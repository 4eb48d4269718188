"""The page Nodes: which Conferencing Nodes call, are silent or are refused."""

from __future__ import annotations

from aiohttp import web

from pexpolicy.cli.for_console import refusals
from pexpolicy_console.context import console_of
from pexpolicy_console.pages.page import Page, render
from pexpolicy_console.server_client import NodeState

SILENT_S = 3600.0
"""Time without a call from which on a node is silent, as for ``pexpolicy status``."""
HINTS = {
    refusals.UNAUTHORISED: "no user and password, or not those of [auth]: see the policy profile",
    refusals.NOT_ALLOWED: "the address is not in [access] networks",
    refusals.BUSY: "too many wrong passwords: correct the policy profile, and wait ten minutes",
    refusals.HANDSHAKE_FAILED: "no HTTPS, or no certificate that [tls] accepts",
    refusals.UNKNOWN_PATH: "often /policy/v1 too many in the policy profile, or another base_path",
}
"""What to look at first, by the reason of a refusal."""
REFUSED, SILENT, CALLS = "refused", "silent", "calls"
_ORDER = (REFUSED, SILENT, CALLS)


async def nodes(request: web.Request) -> web.StreamResponse:
    """Show each node with its last call and its last refusal."""
    status, problem = await console_of(request).server.status()
    found = [] if status is None else [(state_of(node), node) for node in status.nodes]
    refused = {} if status is None else status.refused
    found.sort(key=lambda item: _ORDER.index(item[0]))
    return render(request, "nodes.html", nodes=found, refused=refused, hints=HINTS, problem=problem)


def state_of(node: NodeState) -> str:
    """Return whether a node is refused, silent or calls."""
    if node.last_refused and node.last_refused > (node.last_call or 0.0):
        return REFUSED
    return SILENT if node.age is None or node.age > SILENT_S else CALLS


PAGES = (Page("/nodes", nodes, "Nodes"),)
