"""Pictures from a web server: what it is asked for, and what its replies mean."""

import asyncio
import base64
import functools
import gzip
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pexpolicy import Alias
from pexpolicy_avatars.settings import Template
from pexpolicy_avatars.sources import MAX_BYTES, quoted
from tests.support import traversal
from tests.support.avatars import Serving, image_of, picture


@dataclass
class Photos:
    """A web server with one picture at each path, and the requests that came."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    reply: Callable[[], web.StreamResponse] = lambda: web.Response(body=picture())
    delay: float = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.delay)
        return self.reply()


@pytest.fixture
async def photos() -> AsyncIterator[Photos]:
    made = Photos()
    app = web.Application()
    app.router.add_get("/{rest:.*}", made.handle)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        made.url = str(server.make_url("/photos"))
        yield made


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/{user}.jpg", "/photos/anna.jpg"),
        ("/{host}/{user}", "/photos/example.com/anna"),
        ("?mail={alias}&size=full", "/photos?mail=anna%40example.com&size=full"),
        ("/{alias}/%7Bid%7D", "/photos/anna%40example.com/%7Bid%7D"),
    ],
)
async def test_the_url_is_the_filled_template(
    serving: Serving, photos: Photos, template: str, path: str
) -> None:
    async with serving(http={"url": photos.url + template}) as ask:
        outcome = await ask("sip:Anna@Example.com;transport=tls", width=70, height=50)
        assert image_of(outcome).size == (70, 50)
        assert outcome.decision.reason == "a picture from http"
        assert photos.paths == [path]
        await ask("anna@example.com", width=70, height=50)
        await ask("anna@example.com", width=10, height=10)
        assert len(photos.paths) == 1, "the picture is cached"


async def test_an_alias_without_a_domain_fills_no_template_with_one(
    serving: Serving, photos: Photos
) -> None:
    async with serving(http={"url": photos.url + "/{host}/{user}"}) as ask:
        assert (await ask("anna")).decided_by == "default"
    assert photos.paths == []


@pytest.mark.parametrize("status", [204, 404, 410])
async def test_without_a_picture_the_plugin_abstains_and_remembers_it(
    serving: Serving, photos: Photos, status: int
) -> None:
    photos.reply = lambda: web.Response(status=status)
    async with serving(http={"url": photos.url + "/{user}"}) as ask:
        for _ in range(3):
            assert await ask.step() == ("abstained", "")
    assert len(photos.paths) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 429, 500, 503])
async def test_another_status_is_a_failure_that_is_not_remembered(
    serving: Serving, photos: Photos, status: int
) -> None:
    photos.reply = lambda: web.Response(status=status, headers={"Location": "/photos/other"})
    async with serving(http={"url": photos.url + "/{user}"}, initials={}) as ask:
        outcome, detail = await ask.step()
        assert outcome == "failed"
        assert f"127.0.0.1: HTTP {status}" in detail
        photos.reply = Photos().reply
        assert (await ask.step())[0] == "decided"
    assert photos.paths == ["/photos/anna"] * 2


async def test_a_server_that_is_down_is_a_failure_until_it_is_back(
    serving: Serving, photos: Photos, unused_tcp_port: int
) -> None:
    async with serving(http={"url": f"http://127.0.0.1:{unused_tcp_port}/{{user}}"}) as ask:
        outcome, detail = await ask.step()
        assert (outcome, "nothing listens" in detail) == ("failed", True), detail
        app = web.Application()
        app.router.add_get("/{rest:.*}", photos.handle)
        async with TestServer(app, port=unused_tcp_port, shutdown_timeout=0.1):
            assert (await ask.step())[0] == "decided"


async def test_a_slow_server_is_waited_for_up_to_the_timeout(
    serving: Serving, photos: Photos
) -> None:
    photos.delay = 5.0
    async with serving(http={"url": photos.url + "/{user}", "timeout": 0.05}) as ask:
        outcome, detail = await ask.step()
        assert (outcome, "no whole reply in time" in detail) == ("failed", True), detail


async def test_a_picture_that_comes_too_late_serves_the_next_call(
    serving: Serving, photos: Photos
) -> None:
    photos.delay = 0.3
    async with serving({"timeout": 0.1}, http={"url": photos.url + "/{user}"}) as ask:
        steps = [(await ask.step())[0]]
        while steps[-1] == "timed_out" and len(steps) < 50:
            steps.append((await ask.step())[0])
    assert (steps[0], steps[-1]) == ("timed_out", "decided")
    assert len(photos.paths) == 1


async def test_calls_at_once_share_one_request(serving: Serving, photos: Photos) -> None:
    photos.delay = 0.05
    async with serving(http={"url": photos.url + "/{user}"}) as ask:
        outcomes = await asyncio.gather(*(ask(width=size % 5 + 10) for size in range(40)))
    assert {outcome.decided_by for outcome in outcomes} == {"avatars"}
    assert len(photos.paths) == 1


async def test_a_frozen_server_fills_no_memory(serving: Serving, photos: Photos) -> None:
    photos.delay = 5.0
    async with serving({"timeout": 0.2}, http={"url": photos.url + "/{user}"}) as ask:
        steps = await asyncio.gather(*(ask.step(f"user-{number}") for number in range(150)))
    assert [step for step, _ in steps].count("timed_out") == 100
    assert sum("100 pictures are being fetched already" in detail for _, detail in steps) == 50


@functools.cache
def bomb() -> bytes:
    return gzip.compress(bytes(50_000_000), 1)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda: web.Response(body=bytes(MAX_BYTES + 1)), "longer than 10485760 bytes"),
        (lambda: web.Response(text="<html>sign in</html>"), "not a picture"),
        (lambda: web.Response(body=bomb(), headers={"Content-Encoding": "gzip"}), "not a picture"),
        (lambda: web.Response(body=picture((2100, 2000), kind="PNG")), "too large"),
    ],
    ids=["large", "html", "gzip", "bomb"],
)
async def test_what_is_no_picture_is_a_failure(
    serving: Serving, photos: Photos, reply: Callable[[], web.Response], says: str
) -> None:
    photos.reply = reply
    async with serving(http={"url": photos.url + "/{user}"}) as ask:
        for _ in range(2):
            outcome, detail = await ask.step()
            assert outcome in ("failed", "invalid")
            assert says in detail
    assert "gzip" not in photos.headers[0].get("Accept-Encoding", "")


async def test_a_broken_reply_is_a_failure_that_names_nobody(serving: Serving) -> None:
    async def broken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(replies.pop())
        writer.close()

    replies = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"nonsense\r\n\r\n", b""]
    server = await asyncio.start_server(broken, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with server, serving(http={"url": f"http://127.0.0.1:{port}/{{user}}"}) as ask:
        while replies:
            outcome, detail = await ask.step("anna@example.com")
            assert outcome == "failed"
            assert "127.0.0.1: " in detail
            assert "anna" not in detail


async def test_credentials_are_sent(
    serving: Serving, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("a password\n")
    monkeypatch.setenv("PHOTOS_TOKEN", "a-token")
    url = photos.url + "/{user}"
    for settings, expected in [
        (
            {"user": "pexpolicy", "password_file": str(tmp_path / "password")},
            "Basic " + base64.b64encode(b"pexpolicy:a password").decode(),
        ),
        ({"token_env": "PHOTOS_TOKEN"}, "Bearer a-token"),
        ({}, None),
    ]:
        async with serving(http={"url": url, **settings}) as ask:
            await ask()
        assert photos.headers.pop().get("Authorization") == expected


async def test_no_known_traversal_leaves_the_path(serving: Serving, photos: Photos) -> None:
    async with serving(http={"url": photos.url + "/{user}"}) as ask:
        for text in traversal.ATTACKS[::7]:
            await ask(text.encode("utf-8", "replace").decode())
    assert len(photos.paths) > 20
    for path in photos.paths:
        start, _, name = path.rpartition("/")
        assert (start, "?" in name, "#" in name) == ("/photos", False, False)
        assert name.strip(".") != ""
        assert "%2f" not in name.lower().replace("%252f", "")


@given(
    st.lists(st.sampled_from(traversal.FRAGMENTS) | st.text(max_size=4), max_size=8)
    .map("".join)
    .filter(lambda text: text.isprintable() or text.isascii())
)
def test_an_alias_is_one_segment_of_the_path_and_one_value_of_the_query(text: str) -> None:
    alias = Alias(text)
    filled = Template("http://host.example/photos/{user}?mail={alias}&b=1").fill(alias, quoted)
    if filled is not None:
        url = URL(filled, encoded=True)
        assert url.host == "host.example"
        assert url.raw_parts[:2] == ("/", "photos")
        assert url.parts[2:] == (alias.user,)
        assert list(url.query.items()) == [("mail", alias), ("b", "1")]
