"""Canaries in place of the credentials of sources, and of plugins that call servers; each output of
a server, the commands and the console.
"""

import base64
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import live_console, live_server, postgresql, programs, slapd, wire
from tests.support.secret_canaries import PIN, WORD
from tests.support.server_process import free_port

pytestmark = [programs.needs_compiled("python-ldap"), pytest.mark.slow]

CONFIG = """
[log]
level = "debug"
[audit]
path = "audit.jsonl"
[admin]
port = {admin}
[sources.database]
driver = "sql"
url = "{database}"
password_file = "database.password"
tls = false
[sources.people]
driver = "ldap"
url = "{ldap}"
base = "dc=example,dc=com"
user = "cn=reader,dc=example,dc=com"
password_env = "CANARY_LDAP"
tls = false
[sources.web]
driver = "http"
url = "{web}"
token_file = "web.password"
[sources.oauth]
driver = "http"
url = "{web}"
token_url = "{web}/token"
client_id = "pexpolicy"
client_secret_file = "oauth.password"
[sources.devices]
driver = "file"
path = "devices.csv"
[plugins.sql]
priority = 10
[plugins.sql.settings]
source = "database"
participant_properties = "SELECT name AS spotlight FROM people WHERE alias = :remote_alias"
[plugins.rules]
priority = 20
[[plugins.rules.settings.rules]]
name = "of the web"
endpoint = "media_location"
when.remote_alias.in_source = "web"
then = "continue"
[[plugins.rules.settings.rules]]
name = "of the service"
endpoint = "service_configuration"
when.remote_alias.in_source = "oauth"
then = "continue"
[plugins.rules.settings.sources.web]
source = "web"
query = "/{{value}}"
by_key = true
[plugins.rules.settings.sources.oauth]
source = "oauth"
query = "/{{value}}"
by_key = true
[plugins.registrations.settings]
source = "devices"
query = ""
[plugins.directory.settings]
source = "people"
query = "(objectClass=person) alias=mail name=cn"
cache = "people.json"
[plugins.avatars.settings]
source = "people"
query = "(mail={{alias}}) thumbnailPhoto"
[plugins.photos]
plugin = "avatars"
[plugins.photos.settings.http]
url = "{web}/{{alias}}"
user = "pexpolicy"
password_file = "photos.password"
[plugins.graph]
plugin = "avatars"
[plugins.graph.settings.graph]
tenant = "example.com"
client_id = "pexpolicy"
secret_file = "graph.password"
authority = "{web}"
endpoint = "{web}/v1.0"
[plugins.rooms.settings]
pins = "pins.csv"
pin = {{ derive = "sha256", secret_file = "pin.password", digits = 6 }}
[plugins.rooms.settings.rooms.board]
name = "Board"
[plugins.rooms.settings.rooms.sales]
name = "Sales"
[plugins.upstream]
priority = 200
[plugins.upstream.settings.targets.other]
url = "{web}"
user = "pexpolicy"
password_file = "upstream.password"
[plugins.webhook.settings]
url = "{web}/events"
spool = "spool"
secret_file = "webhook.password"
token_file = "events.password"
"""
FILES = ("database", "web", "oauth", "photos", "graph", "pin", "upstream", "webhook", "events")
LDAP = f"{WORD}-of-ldap"
CALLS = (
    f"{wire.SERVICE}?local_alias=board&remote_alias=anna@example.com",
    f"{wire.SERVICE}?local_alias=nothing&remote_alias=bob@example.com",
    f"{wire.PARTICIPANT}?remote_alias=anna@example.com",
    f"{wire.LOCATION}?remote_alias=anna@example.com",
    f"{wire.AVATAR}anna@example.com",
    f"{wire.DIRECTORY}?q=anna",
    f"{wire.REGISTRATION}desk@example.com",
)
PAGES = ("/", "/decisions", "/nodes", "/plugins", "/rules", "/rooms", "/configuration", "/audit")


class _Echo(socketserver.StreamRequestHandler):
    """Sends back what it gets, whatever the protocol."""

    def handle(self) -> None:
        while content := self.request.recv(65536):
            self.request.sendall(content)


class _Refusal(BaseHTTPRequestHandler):
    """Refuses each request with all that is in it: as reason, header and text."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length).decode("latin-1")
        told = f"{self.headers.get('Authorization')} {body}".replace("\n", " ")
        self.send_response(401, told[:500])
        content = json.dumps({"error": told, "error_description": told, "message": told}).encode()
        for name, value in (("Content-Type", "application/json"), ("WWW-Authenticate", told[:500])):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that closes its connection is no error."""


@contextmanager
def listening(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    """Start a server in threads, and yield its host and port."""
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def places(world: str) -> Iterator[dict[str, str]]:
    """Yield the URLs of servers that are dead, echo what they get, or refuse the credentials."""
    if world == "refusing":
        with (
            listening(_Refusal) as web,
            postgresql.Server.running() as database,
            slapd.Server.running() as ldap,
        ):
            yield {"web": f"http://{web}", "database": database.url, "ldap": ldap.url}
        return
    with listening(_Echo) as echo:
        place = echo if world == "echo" else f"127.0.0.1:{free_port()}"
        yield {
            "web": f"http://{place}",
            "database": f"postgresql://pexpolicy@{place}/rooms",
            "ldap": f"ldap://{place}",
        }


def encoded(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and what Base64 makes of it at each place of a text."""
    yield secret
    for before in range(3):
        text = base64.b64encode(b"x" * before + secret.encode()).decode()
        yield text[4 : len(text) - 4]


FORBIDDEN = [text for secret in (WORD, PIN) for text in encoded(secret)]


class Outputs(dict[str, str]):
    """What was printed, logged and sent to operators, by where."""

    def run(self, *arguments: str) -> None:
        """Run a command."""
        self[" ".join(arguments)] = CliRunner().invoke(main, arguments).output

    def leaks(self) -> list[str]:
        """Return where a secret is, with what is before it."""
        return [
            f"{name}: {text[max(0, at - 200) : at + len(secret)]}"
            for name, text in self.items()
            for secret in FORBIDDEN
            if (at := text.find(secret)) >= 0
        ]


def configure(folder: Path, urls: dict[str, str]) -> Path:
    """Write the configuration, with a canary for each credential."""
    for name in FILES:
        file = folder / f"{name}.password"
        file.write_text(f"{WORD}-of-{name}-which-is-long-enough")
        file.chmod(0o600)
    for name, text in (
        ("devices.csv", f"alias,username,password\ndesk@example.com,desk,{WORD}\n"),
        ("pins.csv", f"alias,pin\nsales,{PIN}\n"),
        ("config.toml", CONFIG.format(admin=free_port(), **urls)),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return folder / "config.toml"


@pytest.mark.parametrize("world", ["dead", "echo", "refusing"])
def test_no_output_has_a_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY_LDAP", LDAP)
    outputs = Outputs()
    log: list[str] = []
    with places(world) as urls:
        config = configure(tmp_path, urls)
        outputs.run("check")
        assert "config.toml: valid" in outputs["check"], outputs["check"]
        for arguments in (("check", "--open"), ("plugins", "--json"), ("config", "schema")):
            outputs.run(*arguments)
        for call in CALLS[1:5]:
            outputs.run("explain", "--json", "--traceback", call)
        environment = {"CANARY_LDAP": LDAP}
        with live_server.running(
            config, environment=environment, own_admin_port=True, log=log
        ) as server:
            for call in CALLS * 2:
                server.ask(call)
            outputs["reply"] = server.ask(CALLS[0]).body.decode()
            for path in ("/status", "/metrics", "/healthz", "/readyz"):
                outputs[path] = server.operator(path).body.decode()
            for command in ("status", "doctor"):
                outputs.run(command)
                outputs.run(command, "--json")
            if world == "refusing":
                _browse(config, server, outputs)
            config.write_text(config.read_text() + "[plugins.roms]\n")
            (refused,) = ask_for_reload(config)
            outputs["reload"] = repr(refused)
            failed = [step for line in server.lines() for step in line.get("steps", ())]
            outputs["audit"] = server.audit.read_text()
        outputs["log"] = "".join(log)
    assert not outputs.leaks()
    # On a busy machine some are too late instead.
    names = {step["plugin"] for step in failed if step["outcome"] not in ("decided", "abstained")}
    assert {"sql", "rules", "avatars", "directory", "photos", "graph", "upstream"} <= names, names


def _browse(config: Path, server: live_server.Running, outputs: Outputs) -> None:
    """Read the pages of the console."""
    document: Any = json.loads(outputs["/status"])
    pages = [*PAGES, *(f"/plugins/{plugin['name']}" for plugin in document["plugins"])]
    pages += [f"/decisions/{line['decision_id']}" for line in server.lines()]
    with live_console.running_console(config) as console:
        console.log_in()
        for page in pages:
            outputs[f"console {page}"] = console.get(page).text
