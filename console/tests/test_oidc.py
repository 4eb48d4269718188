"""Login by OpenID Connect, at a provider on this machine."""

import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from pexpolicy_console.login.oidc import (
    KEPT_S,
    RETRY_S,
    OidcError,
    Provider,
    endpoint_of,
)
from tests.support.live_console import LiveConsole, running_console
from tests.support.waiting import HANG_S

KEY = RSAKey.generate_key(2048, {"kid": "1"}, private=True)
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "1"}, private=True)


class Idp(ThreadingHTTPServer):
    """A provider whose next token has these ``claims``."""

    claims: dict[str, Any]
    header: dict[str, Any]
    key: RSAKey
    token_request: dict[str, list[str]]
    keys: tuple[RSAKey, ...] = (KEY,)
    asked: Counter[str]
    """Requests by the first part of their path."""
    status = 200
    leads_to = ""
    """Where requests to 127.0.0.1 are redirected."""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Idp

    def do_GET(self) -> None:
        issuer = self.server.issuer
        self.server.asked[self.path.split("/")[1]] += 1
        if self.server.leads_to and "127.0.0.1" in self.headers["Host"]:
            self.send_response(302)
            self.send_header("Location", f"{self.server.leads_to}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif "well-known" in self.path:
            self._send(
                {
                    "issuer": issuer,
                    "authorization_endpoint": f"{issuer}/authorize?tenant=1",
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/keys",
                }
            )
        else:
            self._send({"keys": [one.as_dict(private=False) for one in self.server.keys]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked["token"] += 1
        self.server.token_request = parse_qs(body)
        self._send(
            {"id_token": jwt.encode(self.server.header, self.server.claims, self.server.key)}
        )

    def _send(self, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[Idp]:
    with Idp(("127.0.0.1", 0), _Answers) as server:
        server.asked = Counter()
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture
def idp(provider: Idp) -> Iterator[Idp]:
    """Yield the provider for a test that changes what it answers."""
    provider.asked.clear()
    yield provider
    provider.keys, provider.status = (KEY,), 200


@pytest.fixture(scope="module")
def console(provider: Idp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    folder: Path = tmp_path_factory.mktemp("console")
    (folder / "secret.txt").write_text("the client's secret")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config.toml").write_text(
        f"""
        [console]
        url = "http://localhost:{port}"
        [console.oidc]
        issuer = "{provider.issuer}"
        client_id = "pexpolicy"
        client_secret_file = "secret.txt"
        roles = {{ operator = ["policy-operators"] }}
        """
    )
    with running_console(folder / "config.toml", "--port", str(port)) as running:
        yield running


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Browser:
    """Logs in through the provider."""

    def __init__(self, console: LiveConsole, provider: Idp, query: str = "") -> None:
        self.provider = provider
        self.netloc = console.netloc
        reply = self.get(f"/login/oidc{query}")
        assert reply.status == 303
        self.query = parse_qs(urlsplit(reply.headers["Location"]).query)
        self.cookie = reply.headers["Set-Cookie"].partition(";")[0]
        provider.key, provider.header = KEY, {"alg": "RS256", "kid": "1"}
        provider.claims = {
            "iss": provider.issuer,
            "aud": "pexpolicy",
            "sub": "ann",
            "exp": int(time.time()) + 60,
            "nonce": self.query["nonce"][0],
            "groups": ["staff", "policy-operators"],
        }

    def get(self, path: str, cookie: str = "") -> Reply:
        connection = http.client.HTTPConnection(self.netloc, timeout=HANG_S)
        try:
            connection.request("GET", path, headers={"Cookie": cookie})
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    def come_back(self, *, state: str = "", cookie: str | None = None) -> Reply:
        state = state or self.query["state"][0]
        path = f"/login/oidc/callback?code=123&state={state}"
        return self.get(path, self.cookie if cookie is None else cookie)


def test_the_groups_of_a_user_give_the_role(console: LiveConsole, provider: Idp) -> None:
    browser = Browser(console, provider)
    reply = browser.come_back()
    assert reply.status == 200
    cookie = reply.headers["Set-Cookie"].partition(";")[0]
    assert b"ann <small>operator</small>" in browser.get("/", cookie).body
    assert console.actions()[-1]["method"] == "oidc"
    assert provider.token_request["client_secret"] == ["the client's secret"]
    assert browser.get("/", "").status == 303


def test_a_change_of_the_roles_ends_the_session(console: LiveConsole, provider: Idp) -> None:
    browser = Browser(console, provider)
    cookie = browser.come_back().headers["Set-Cookie"].partition(";")[0]
    before = console.config.read_text()
    try:
        console.config.write_text(f"{before}\n[[console.users]]\nuser = 'x'\npassword_env = 'X'\n")
        assert browser.get("/", cookie).status == 200
        console.config.write_text(before.replace("operator =", "viewer ="))
        assert browser.get("/", cookie).status == 303
    finally:
        console.config.write_text(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://127.0.0.1:1"},
        {"aud": "another-client"},
        {"aud": ["pexpolicy", "another"]},
        {"azp": "another-client"},
        {"exp": 1},
        {"nonce": "of another login"},
        {"groups": ["policy-operators-of-another-company", "staff"]},
        {"groups": "policy-operators"},
        {"sub": ""},
    ],
)
def test_a_token_that_does_not_fit_exactly_is_refused(
    console: LiveConsole, provider: Idp, changes: dict[str, Any]
) -> None:
    browser = Browser(console, provider)
    provider.claims |= changes
    reply = browser.come_back()
    assert reply.status == 401
    assert "pexpolicy_console" not in str(reply.headers)
    assert console.actions()[-1]["event"] == "login refused"


def test_a_token_that_another_key_signed_is_refused(console: LiveConsole, provider: Idp) -> None:
    browser = Browser(console, provider)
    provider.key = OTHER_KEY
    assert browser.come_back().status == 401


def test_a_login_that_another_browser_began_is_refused(console: LiveConsole, provider: Idp) -> None:
    mine, other = Browser(console, provider), Browser(console, provider)
    assert mine.come_back(state=other.query["state"][0]).status == 401
    assert mine.come_back(cookie="").status == 401


def test_errors_that_a_stranger_invents_share_lines(console: LiveConsole, provider: Idp) -> None:
    for number in range(12):
        browser = Browser(console, provider)
        path = f"/login/oidc/callback?error=e{number}&state={browser.query['state'][0]}"
        assert browser.get(path, browser.cookie).status == 401
    lines = [line for line in console.actions() if line.get("reason") == "the provider refused"]
    assert lines[0]["detail"] == "e0"
    assert len(lines) < 12


def test_logins_share_metadata_and_use_the_present_keys(console: LiveConsole, idp: Idp) -> None:
    assert Browser(console, idp).come_back().status == 200
    idp.asked.clear()
    for _ in range(4):
        browser = Browser(console, idp)
        assert browser.query["tenant"] == ["1"]
        assert browser.come_back().status == 200
    assert idp.asked == {"token": 4, "keys": 4}
    browser = Browser(console, idp)
    new_key = RSAKey.import_key(OTHER_KEY.as_dict(private=True) | {"kid": "2"})
    idp.keys, idp.key, idp.header = (KEY, new_key), new_key, {"alg": "RS256", "kid": "2"}
    assert browser.come_back().status == 200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_metadata_is_fetched_again_after_an_hour(idp: Idp) -> None:
    clock = Clock()
    provider = Provider(idp.issuer, clock)
    for _ in range(3):
        clock.now += KEPT_S / 4
        await provider.discover()
    assert idp.asked == {".well-known": 1}
    clock.now += KEPT_S
    await provider.discover()
    assert idp.asked == {".well-known": 2}


async def test_a_provider_that_is_down_is_asked_by_one_login_of_many(
    idp: Idp, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    provider = Provider(idp.issuer, clock)
    idp.status = 503
    caplog.set_level(logging.WARNING)
    answers = [provider.discover() for _ in range(20)]
    failures = await asyncio.gather(*answers, return_exceptions=True)
    assert {type(one) for one in failures} == {OidcError}
    assert idp.asked == {".well-known": 1}
    assert [record.message for record in caplog.records] == [
        f"OpenID Connect: {idp.issuer}/.well-known/openid-configuration answers 503"
    ]
    idp.status = 200
    clock.now += RETRY_S
    assert (await provider.discover())["token_endpoint"] == f"{idp.issuer}/token"


async def test_a_provider_that_sends_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = Provider(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        with pytest.raises(OidcError, match=r"does not answer within 0\.05 s"):
            await provider.discover()


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://idp", "https://idp/token"),
        ("http://idp", "http://idp/token"),
        ("http://idp", "https://idp/token"),
    ],
)
def test_an_endpoint_of_a_provider_is_used(issuer: str, url: str) -> None:
    assert endpoint_of({"issuer": issuer, "token_endpoint": url}, "token_endpoint") == url


async def test_no_redirect_of_the_provider_is_followed(
    provider: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "leads_to", f"http://localhost:{provider.server_port}")
    with pytest.raises(OidcError, match="answers 302"):
        await Provider(provider.issuer).discover()


@pytest.mark.parametrize("url", ["http://idp/token", "javascript:1", "", None, 7])
def test_an_encrypted_provider_has_no_plain_endpoint(url: object) -> None:
    with pytest.raises(OidcError, match="no token_endpoint that can be used"):
        endpoint_of({"issuer": "https://idp", "token_endpoint": url}, "token_endpoint")


def test_a_login_leads_to_the_page_that_was_wanted(console: LiveConsole, provider: Idp) -> None:
    wanted = "/decisions?alias=a%26b"
    for path, shown in ((wanted, "/decisions?alias=a%26b"), ("//evil.example", "/")):
        browser = Browser(console, provider, f"?{urlencode({'to': path})}")
        assert f'content="0; url={shown}"'.encode() in browser.come_back().body
