"""The server and the console of the full example, with calls as nodes send them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

from pexpolicy.testing.requests import composed, url_of
from tests.support import live_console, live_server, paths
from tests.support.server_process import free_port

EXAMPLE = paths.ROOT / "examples/full"


@dataclass(frozen=True)
class Company:
    """A running server with its console."""

    server: live_server.Running
    console: live_console.LiveConsole
    config: Path

    def call(self, endpoint: str, shape: str | None = None, **fields: Any) -> None:
        """Send one call of a node."""
        self.server.ask(str(url_of(composed(endpoint, shape, fields))))

    def some_calls(self) -> None:
        """Send calls that each plugin answers, and one that is rejected."""
        rooms = ("engineering", "board", "town-hall", "helpdesk", "nobody")
        for number, room in enumerate(rooms):
            alias, node = f"{room}@example.com", f"10.44.0.2{number % 3}"
            self.call("service_configuration", local_alias=alias, node_ip=node)
        self.call("service_configuration", "sip", local_alias="board", vendor="friendly-scanner")
        self.call("participant_properties", "web", local_alias="board@example.com")
        attributes = {"groups": ["Sales"]}
        self.call("participant_properties", "sso", idp_attributes=attributes, service_tag="board")
        self.call("media_location", remote_address="10.10.1.7")
        self.call("registration_alias", alias="anna@example.com")
        self.call("registration_alias", alias="anna@elsewhere.example")
        self.call("directory_information", q="an")


@contextmanager
def running(folder: Path, more: str = "") -> Iterator[Company]:
    """Start both with a copy of the example in a new folder; ``more`` is configuration."""
    root = folder / "company"
    copytree(EXAMPLE, root)
    config = root / "config.toml"
    text = config.read_text()
    audit = '\n[audit]\npath = "audit.jsonl"\n\n[admin]\n'
    config.write_text(f'{text}{audit}port = {free_port()}\n\n[console]\nlabel = "staging"\n{more}')
    config.chmod(0o600)
    with (
        live_server.running(config, own_admin_port=True) as server,
        live_console.running_console(config) as console,
    ):
        yield Company(server, console, config)
