"""The web console, started by its command line, and a browser's session in it."""

import http.client
import json
import re
import signal
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pexpolicy_console.login.sessions import LoginLinks, Role
from tests.support import forked
from tests.support.waiting import HANG_S, wait_until


@dataclass(frozen=True)
class Page:
    """A reply of the console."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class LiveConsole:
    """A running console. ``cookie`` is that of the user who is logged in."""

    url: str
    folder: Path
    pid: int
    config: Path
    cookie: str = ""
    token: str = field(default="", repr=False)

    @property
    def netloc(self) -> str:
        return self.url.partition("://")[2]

    def get(self, path: str, **headers: str) -> Page:
        """Send a GET request as the user who is logged in; follow no redirect."""
        return self.send("GET", path, None, headers)

    def eventually(self, path: str, text: str) -> str:
        """Return a page as soon as it holds a text."""
        wait_until(lambda: text in self.get(path).text)
        return self.get(path).text

    def post(
        self,
        path: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """Send a form as a browser does, with the origin and the CSRF token."""
        fields = {"csrf_token": self.token, **(form or {})}
        return self.send("POST", path, urlencode(fields), {"Origin": self.url, **(headers or {})})

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Page:
        """Send a request with these headers; underscores in their names are hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection = http.client.HTTPConnection(self.netloc, timeout=HANG_S)
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            return Page(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def link(self, role: str = "admin", user: str = "ann") -> str:
        """Return the token of a new login link."""
        return LoginLinks(self.folder).create(user, Role[role.upper()])

    def log_in(self, role: str = "admin", user: str = "ann") -> "LiveConsole":
        """Log in by a link; return this console."""
        reply = self.send("POST", "/login", f"link={self.link(role, user)}", {"Origin": self.url})
        assert reply.status == 303, reply.text
        self.cookie = reply.headers["Set-Cookie"].partition(";")[0]
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/").text)
        assert found is not None
        self.token = found[1]
        return self

    def actions(self) -> list[dict[str, Any]]:
        """Return the lines of the console's own audit."""
        lines = (self.folder / "actions.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


PROGRAM = f"from pexpolicy_console import command\ncommand.NICENESS = 0\n{forked.PEXPOLICY}"
"""A console that busy tests do not keep waiting."""


@contextmanager
def running_console(config: Path, *arguments: str) -> Iterator[LiveConsole]:
    """Start a console for a configuration on a free port, and stop it."""
    command = ("console", "--config", str(config), "--port", "0", *arguments)
    with forked.Process(*command, program=PROGRAM) as process:
        timeout = threading.Timer(HANG_S, process.kill)
        timeout.start()
        try:
            first = process.stderr.readline()
            timeout.cancel()
            assert first.startswith("console: "), first + process.stderr.read()
            url = first.partition(": ")[2].strip()
            rest = threading.Thread(target=process.stderr.read)
            rest.start()
            yield LiveConsole(url, config.parent / "console-data", process.pid, config)
        finally:
            timeout.cancel()
            process.send_signal(signal.SIGTERM)
            process.wait(HANG_S)


def status_document(**facts: Any) -> dict[str, Any]:
    """Return what ``/status`` of a server answers that has just been started."""
    config = {"path": "config.toml", "policy_hash": "a" * 16, "last_reload_successful": True}
    known = {"ready": True, "version": "0.1.0", "loop_lag": 0.0, "audit": {}, "refused": {}}
    lists = ("not_ready_reasons", "degraded", "plugins", "sources", "nodes", "commands")
    facts["config"] = config | facts.get("config", {})
    return {**known, **{name: [] for name in lists}, **facts}


def plugin_state(name: str, **facts: Any) -> dict[str, Any]:
    """Return the state of a plugin, or of a source, in that document."""
    known = {"name": name, "mode": "decide", "hooks": [], "failures": [], "data": {}, "jobs": {}}
    return {**known, **facts}


@contextmanager
def admin_listener(config: Path, answers: Mapping[str, Any]) -> Iterator[None]:
    """Answer in place of the admin listener of a configuration, by the path of a request."""

    class Admin(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(answers[self.path.partition("?")[0]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    port = tomllib.loads(config.read_text())["admin"]["port"]
    with ThreadingHTTPServer(("127.0.0.1", port), Admin) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield
        finally:
            server.shutdown()
