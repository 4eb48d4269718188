"""Secrets of the configuration, of requests and of the process, looked for wherever the console
shows or stores something.
"""

import gzip
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

from lab.console_attacks.count import Count
from pexpolicy.endpoints import ENDPOINTS
from tests.support import live_server, wire
from tests.support.live_console import LiveConsole, running_console
from tests.support.server_process import free_port

CANARIES = {
    "the password of nodes": "canary-node-7Kq2",
    "the admin token": "canary-admin-token-9Xw4",
    "the password of a user of the console": "canary-console-3Tz8",
    "the secret of the OIDC client": "canary-oidc-5Bn1",
    "a PIN": "73915846",
    "a guest PIN": "40627193",
    "the PIN of a lecture": "88250431",
    "the password of an upstream": "canary-upstream-2Hd6",
    "the key of the privacy hashes": "canary-privacy-key-8Lm3",
    "the secret of the webhook": "canary-webhook-secret-4Rf9",
    "a wrong password of a node": "canary-guess-6Vj5",
    "a passcode of a participant": "canary-passcode-1Yp7",
    "the password in a SIP URI": "canary-uri-0Gs2",
    "a variable of the environment": "canary-environment-7Ce4",
    "a wrong password of a user": "canary-typed-9Ok1",
}
FILES = {
    "node": "the password of nodes",
    "token": "the admin token",
    "console": "the password of a user of the console",
    "oidc": "the secret of the OIDC client",
    "upstream": "the password of an upstream",
    "privacy": "the key of the privacy hashes",
    "webhook": "the secret of the webhook",
}
CONFIG = """
[server]
port = 0

[auth]
user = "pexip"
password_file = "node"

[audit]
path = "audit.jsonl"

[admin]
port = {port}
token_file = "token"

[privacy]
personal = "{personal}"
key_file = "privacy"

[console]
url = "http://127.0.0.1:{own}"

[[console.users]]
user = "vera"
role = "admin"
password_file = "console"

[console.oidc]
issuer = "http://127.0.0.1:9/issuer"
client_id = "console"
client_secret_file = "oidc"
roles.admin = ["admins"]

[plugins.rooms.settings.rooms."sip:board@example.com"]
name = "Board"
pin = "73915846"
guest_pin = "40627193"
allow_guests = true

[plugins.rooms.settings.rooms."sip:town-hall@example.com"]
name = "Town hall"
service_type = "lecture"
pin = "88250431"

[plugins.upstream]
on_error = "skip"

[plugins.upstream.settings.targets.bookings]
url = "http://127.0.0.1:9"
user = "pexpolicy"
password_file = "upstream"

[plugins.webhook.settings]
url = "http://127.0.0.1:9/events"
spool = "spool"
secret_file = "webhook"
"""
PATHS = (
    *(
        "/",
        "/decisions",
        "/try",
        "/try?endpoint=service_configuration",
        "/who?alias=board@example.com",
    ),
    *("/who?alias=town-hall@example.com", "/rooms", "/rules", "/plugins", "/plugins/rooms"),
    *("/plugins/upstream", "/plugins/webhook", "/nodes", "/changes", "/changes/reload"),
    *("/audit", "/audit/download", "/login", "/no-such-page", "/static/console.js", "/login/oidc"),
    *("/decisions?alias=board", "/decisions?slower=x", "/plugins/no-such"),
)


@contextmanager
def _running(folder: Path, personal: str) -> Iterator[tuple[live_server.Running, LiveConsole]]:
    for name, canary in FILES.items():
        (folder / name).write_text(f"{CANARIES[canary]}\n")
        (folder / name).chmod(0o600)
    config = folder / "config.toml"
    own = free_port()
    text = CONFIG.format(port=free_port(), own=own, personal=personal)
    if personal != "hashed":
        text = text.replace('key_file = "privacy"\n', "")
    config.write_text(text)
    config.chmod(0o600)
    os.environ["PEXPOLICY_CANARY"] = CANARIES["a variable of the environment"]
    try:
        with (
            live_server.running(config, own_admin_port=True) as server,
            running_console(config, "--port", str(own)) as console,
        ):
            yield server, console
    finally:
        del os.environ["PEXPOLICY_CANARY"]


def _calls(server: live_server.Running) -> None:
    right = wire.basic("pexip", CANARIES["the password of nodes"])
    fields = {
        "local_alias": "sip:board@example.com",
        "remote_alias": f"sip:ann:{CANARIES['the password in a SIP URI']}@example.com",
        "third_party_passcode": CANARIES["a passcode of a participant"],
    }
    for path in (endpoint.path for endpoint in ENDPOINTS.values()):
        suffix = quote(fields["remote_alias"], safe="") if path.endswith("/") else ""
        server.ask(f"{path}{suffix}?{urlencode(fields)}", headers=right)
    town_hall = urlencode({"local_alias": "sip:town-hall@example.com"})
    server.ask(f"{wire.SERVICE}?{town_hall}", headers=right)
    wrong = wire.basic("pexip", CANARIES["a wrong password of a node"])
    server.ask(f"{wire.SERVICE}?{urlencode(fields)}", headers=wrong)


def _shown(server: live_server.Running, console: LiveConsole) -> Iterator[tuple[str, bytes]]:
    """Yield each reply and each file of the console."""
    wrong = f"user=vera&password={CANARIES['a wrong password of a user']}"
    yield "a wrong password", console.send("POST", "/login", wrong, {"Origin": console.url}).body
    right = f"user=vera&password={CANARIES['the password of a user of the console']}"
    reply = console.send("POST", "/login", right, {"Origin": console.url})
    console.cookie = reply.headers["Set-Cookie"].partition(";")[0]
    console.token = (
        console.get("/").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    )
    decided = [f"/decisions/{one['decision_id']}" for one in server.lines() if "decision_id" in one]
    while console.get(decided[-1]).status != 200:
        time.sleep(0.1)
    yield "newer calls", console.get("/decisions/newer?after=0").body
    for path in (*PATHS, *decided):
        got = console.get(path)
        body = gzip.decompress(got.body) if path == "/audit/download" else got.body
        yield path, body + repr(got.headers).encode()
    for alias in ("board@example.com", "town-hall@example.com", *(one[11:] for one in decided)):
        yield f"try {alias}", console.get(f"/try?{urlencode({'request': alias})}").body
        yield f"walk {alias}", console.get(f"/decisions/{alias}/walk").body
    yield "reload", console.post("/changes/reload").body
    yield "verify", console.post("/audit/verify").body
    for file in console.folder.rglob("*"):
        if file.is_file():
            yield str(file.relative_to(console.folder)), file.read_bytes()


def attack(folder: Path) -> Iterator[Count]:
    """Look for each secret on each page, in each download and file, for two kinds of privacy."""
    count = Count(f"{len(CANARIES)} secrets on pages, in downloads and in files")
    for personal in ("clear", "hashed"):
        place = folder / personal
        place.mkdir(parents=True)
        with _running(place, personal) as (server, console):
            _calls(server)
            for where, content in _shown(server, console):
                for name, canary in CANARIES.items():
                    count.add(canary.encode() in content, f"{name} in {where}")
    yield count
