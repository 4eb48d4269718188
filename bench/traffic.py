"""Traffic of 4,096 different request targets, as a Conferencing Node writes them.

One fixed URL would flatter every aiohttp server: yarl keeps the last 128 URLs with their parsed
query. So each call has its own ``remote_port``, ``remote_alias`` and ``call_tag``. Numbers have a
constant width, so that all targets and all replies of one scenario have the same length.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

TARGETS = 4096
USER = "pexip"

Result = Mapping[str, object]


@dataclass(frozen=True)
class Traffic:
    """Request targets, and what ``result`` of the reply to each must hold at least."""

    targets: tuple[str, ...]
    result: Callable[[int], Result]
    connection: str = ""
    """The Connection header of the load; ``close`` opens a connection for each call."""

    def with_constant_result(self) -> "Traffic":
        """Return the same calls for a server that answers all of them like the first one."""
        first = self.result(0)
        return replace(self, result=lambda _index: first)

    def starting_with(self, index: int) -> "Traffic":
        """Return the same calls with another one first, which is the one sent at start-up."""
        return replace(self, targets=(*self.targets[index:], *self.targets[:index]))

    def on_new_connections(self) -> "Traffic":
        """Return the same calls, each on a connection of its own."""
        return replace(self, connection="close")


def calls(dialled: Callable[[int], str], result: Callable[[int], Result]) -> Traffic:
    """Return service calls with 21 parameters; ``dialled`` returns call n's ``local_alias``."""
    return Traffic(tuple(_target(n, dialled(n)) for n in range(TARGETS)), result)


def authorization(password: str) -> str:
    """Return the value of the Authorization header (HTTP Basic)."""
    return "Basic " + b64encode(f"{USER}:{password}".encode()).decode()


def write_for_wrk(traffic: Traffic, password: str, path: Path) -> None:
    """Write the input of ``wrk.lua``: two header values, then one target per line."""
    lines = (authorization(password), traffic.connection, *traffic.targets)
    path.write_text("\n".join(lines) + "\n")


def _target(n: int, local_alias: str) -> str:
    parameters = {
        "call_direction": "dial_in",
        "protocol": "sip",
        "bandwidth": "0",
        "vendor": "Cisco/CE",
        "encryption": "On",
        "registered": "False",
        "trigger": "invite",
        "remote_display_name": "Alice",
        "remote_alias": f"sip:alice{n:04}@example.com",
        "remote_address": "10.44.151.5",
        "remote_port": f"{20000 + n}",
        "call_tag": f"tag{n:04}",
        "idp_uuid": "",
        "has_authenticated_display_name": "False",
        "supports_direct_media": "False",
        "teams_tenant_id": "",
        "location": "London",
        "node_ip": "10.144.101.21",
        "version_id": "39",
        "pseudo_version_id": "82559.0.0",
        "local_alias": local_alias,
    }
    return f"/policy/v1/service/configuration?{urlencode(parameters)}"


ENGINEERING: Result = {
    "service_type": "conference",
    "name": "Engineering Room",
    "service_tag": "engineering-room",
}
PREPARED = calls(lambda _n: "engineering", lambda _n: ENGINEERING)
