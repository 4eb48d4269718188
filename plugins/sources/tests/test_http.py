"""Driver ``http``, with a real web service and a real token server."""

import asyncio
import base64
import codecs
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pexpolicy import Alias
from pexpolicy_sources import Lookup, QueryError, SourceUnavailableError, http
from pexpolicy_sources.http import HttpSettings, HttpSource, UrlTemplate
from tests.support.waiting import HANG_S, until

SECRET = "canary/of:the secret"


class Service:
    """A web service with rooms, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.rooms: dict[str, Any] = {"clinic@example.com": {"name": "Clinic"}}
        self.version = 1
        self.tokens: list[str] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.logins: list[tuple[str | None, dict[str, list[str]]]] = []
        self.status = 0
        self.life: Any = 3600
        self.needs_token = False
        self.token_end = ""
        self.is_silent = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        await self.gate.wait()
        response = self._response(request)
        self.statuses.append(response.status)
        return response

    def _response(self, request: web.Request) -> web.Response:
        if self.status:
            return web.Response(status=self.status, headers={"Location": "/api/rooms"})
        if self.needs_token and request.headers.get("Authorization", "")[7:] not in self.tokens:
            return web.Response(status=401)
        etag = f'"{self.version}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        alias = request.match_info.get("alias")
        if alias is None:
            rows = [{"alias": key, **room} for key, room in self.rooms.items()]
            return web.json_response({"data": {"items": rows}}, headers={"ETag": etag})
        if alias not in self.rooms:
            return web.Response(status=404)
        row = {"data": {"items": self.rooms[alias]}}
        return web.json_response(row, headers={"ETag": etag})

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.logins.append((request.headers.get("Authorization"), parse_qs(await request.text())))
        await asyncio.sleep(HANG_S if self.is_silent else 0.01)
        if self.life is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.tokens.append(f"token-{len(self.logins)}")
        answer = {"access_token": self.tokens[-1] + self.token_end, "expires_in": self.life}
        return web.json_response(answer)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_get("/api/rooms", made.handle)
    app.router.add_get("/api/rooms/{alias:[^/]+}", made.handle)
    app.router.add_post("/token", made.token)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        made.url = str(server.make_url("/api"))
        yield made


def source(service: Service, **keys: Any) -> HttpSource:
    document = {"url": service.url, "rows": "data.items", "timeout": 5.0, **keys}
    return HttpSource(HttpSettings.model_validate(document))


def by_alias(made: HttpSource) -> Lookup[UrlTemplate]:
    return made.lookup("/rooms/{alias}", ["alias"])


@pytest.fixture
def login(service: Service, tmp_path: Path) -> dict[str, str]:
    """The keys for client credentials."""
    (tmp_path / "secret").write_text(SECRET)
    service.needs_token = True
    return {
        "token_url": service.url.replace("/api", "/token"),
        "client_id": "policy server",
        "client_secret_file": str(tmp_path / "secret"),
        "scope": "rooms.read",
    }


async def test_a_row_is_found_by_key_and_404_is_a_miss(service: Service) -> None:
    async with source(service) as made:
        found = await by_alias(made).ask(alias=Alias("sip:Clinic@Example.com"))
        assert list(found.rows) == [{"name": "Clinic"}]
        for _ in range(2):
            assert not (await by_alias(made).ask(alias="nobody")).rows
        assert len(service.paths) == 2


async def test_a_snapshot_is_transferred_again_only_if_it_has_changed(service: Service) -> None:
    async with source(service) as made, made.snapshot("/rooms", list, every=60) as rooms:
        assert [row["alias"] for row in rooms.value] == ["clinic@example.com"]
        await rooms.refresh()
        assert [row["alias"] for row in rooms.value] == ["clinic@example.com"]
        service.rooms["board"], service.version = {"name": "Board"}, 2
        await rooms.refresh()
        assert len(rooms.value) == 2
    assert service.statuses == [200, 304, 200]


@pytest.mark.parametrize("etag", [b'"a\x01b"', b'"\xff"', b'"\xc3\xa5"'])
async def test_an_etag_that_cannot_be_sent_costs_no_refresh(etag: bytes) -> None:
    content = b'[{"alias": "a"}]'
    reply = b"HTTP/1.1 200 OK\r\nETag: %b\r\nContent-Length: %d\r\n\r\n%b"
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                writer.write(reply % (etag, len(content), content))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        HttpSource(HttpSettings(url=url)) as made,
        made.snapshot("/", list, every=60) as rows,
    ):
        await rows.refresh()
        assert list(rows.value) == [{"alias": "a"}]
    assert len(heads) == 2
    assert not any(b"If-None-Match" in head for head in heads)


async def test_an_answer_by_key_is_confirmed_by_its_etag(service: Service) -> None:
    async with source(service, refresh_after=0) as made:
        for _ in range(2):
            found = await by_alias(made).ask(alias="clinic@example.com")
            assert list(found.rows) == [{"name": "Clinic"}]
            assert found.age == 0.0
    assert service.statuses == [200, 304]


async def test_many_calls_share_one_token(service: Service, login: dict[str, str]) -> None:
    async with source(service, **login) as made:
        aliases = [f"room{number}" for number in range(30)]
        await asyncio.gather(*(by_alias(made).ask(alias=alias) for alias in aliases))
    ((authorization, form),) = service.logins
    expected = base64.b64encode(b"policy+server:canary%2Fof%3Athe+secret").decode()
    assert authorization == f"Basic {expected}"
    assert form == {"grant_type": ["client_credentials"], "scope": ["rooms.read"]}


async def test_a_lost_request_for_a_token_is_given_up(
    service: Service, login: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LIMIT_S", 1.0)
    service.is_silent = True
    async with source(service, **login) as made:
        with pytest.raises(SourceUnavailableError, match="the token server failed: no whole reply"):
            await by_alias(made).ask(alias="clinic@example.com")
        service.is_silent = False
        async with asyncio.timeout(HANG_S):
            while True:
                with suppress(SourceUnavailableError):
                    assert (await by_alias(made).ask(alias="clinic@example.com")).rows
                    break


async def test_a_token_that_is_no_header_is_refused(
    service: Service, login: dict[str, str]
) -> None:
    service.token_end = "\r\nX-Injected: 1"
    async with source(service, **login) as made:
        with pytest.raises(SourceUnavailableError, match="HTTP 200"):
            await by_alias(made).ask(alias="a")


async def test_a_token_is_replaced_before_its_end_and_when_it_is_refused(
    service: Service, login: dict[str, str]
) -> None:
    made = source(service, refresh_after=0, **login)
    assert made._login is not None
    now = 0.0
    made._login._clock = lambda: now
    async with made:
        lookup = by_alias(made)
        await lookup.ask(alias="a")
        now = 3569.0
        await lookup.ask(alias="a")
        assert len(service.logins) == 1
        now = 3571.0
        await lookup.ask(alias="a")
        assert len(service.logins) == 2
        service.tokens.clear()
        await lookup.ask(alias="a")
        assert len(service.logins) == 3


async def test_a_refused_client_is_named_without_its_secret(
    service: Service, login: dict[str, str]
) -> None:
    service.life = None
    made = source(service, **login)
    async with made:
        with pytest.raises(SourceUnavailableError, match=r"HTTP 401: invalid_client"):
            await by_alias(made).ask(alias="a")
    assert "canary" not in f"{made.status()} {made.settings!r}"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((500, SourceUnavailableError), (429, SourceUnavailableError)),
        *((400, QueryError), (302, QueryError)),
    ],
)
async def test_other_replies_are_failures(
    service: Service, status: int, error: type[Exception]
) -> None:
    service.status = status
    async with source(service) as made:
        with pytest.raises(error, match=f"HTTP {status}"):
            await by_alias(made).ask(alias="a")
    assert len(service.paths) == 1, "a redirect is not followed"


async def test_replies_of_another_form_and_size_are_refused(service: Service) -> None:
    service.rooms["list"] = ["no", "objects"]
    service.rooms["large"] = {"name": "x" * (1 << 20)}
    for name, item in {"objects": {}, "lists": [], "nested": [[]], "numbers": 1}.items():
        service.rooms[f"many {name}"] = {"values": [item] * 140_000}
    async with source(service, max_mb=1) as made:
        with pytest.raises(QueryError, match="neither an object nor a list"):
            await by_alias(made).ask(alias="list")
        with pytest.raises(QueryError, match="longer than 1048576 bytes: max_mb"):
            await by_alias(made).ask(alias="large")
        for name in ("objects", "lists", "nested", "numbers"):
            # As large as it may be, but it would stop all calls while it is read.
            with pytest.raises(QueryError, match="has more than 131,072 values"):
                await by_alias(made).ask(alias=f"many {name}")
    async with source(service, rows="data.rooms") as made:
        with pytest.raises(QueryError, match=r"no data\.rooms"):
            await by_alias(made).ask(alias="list")
        assert made._rows(codecs.BOM_UTF8 + b'{"data": {"rooms": []}}') == []


async def test_answers_are_stale_while_the_service_is_frozen(service: Service) -> None:
    async with source(service, refresh_after=0, timeout=0.1) as made:
        lookup = by_alias(made)

        async def is_fresh() -> bool:
            with suppress(SourceUnavailableError):
                return (await lookup.ask(alias="clinic@example.com")).age == 0.0
            return False

        await until(is_fresh)
        service.gate.clear()
        for _ in range(20):
            assert (await lookup.ask(alias="clinic@example.com")).age > 0.0
        service.gate.set()
        await until(is_fresh)


@given(text=st.text(st.characters(codec="utf-8")) | st.sampled_from(["..", ".", "../../admin"]))
def test_no_value_changes_the_path(text: str) -> None:
    template = UrlTemplate("/rooms/{alias}?x={alias}&y=1", ["alias"])
    address = template.fill({"alias": text})
    if text in ("", ".", ".."):
        assert address is None
        return
    assert address is not None
    path, _, query = address.partition("?")
    assert path.count("/") == 2
    assert query.count("&") == 1
    assert "#" not in address


def test_no_query_without_a_value_asks_for_all() -> None:
    template = UrlTemplate("/rooms?alias={alias}&tag={tag}", ["alias", "tag"])
    assert template.fill({"alias": "", "tag": None}) is None
    assert template.fill({"alias": "", "tag": "a"}) == "/rooms?alias=&tag=a"
    assert template.fill({"alias": False, "tag": None}) == "/rooms?alias=false&tag="
    assert UrlTemplate("/rooms?all=1", ["alias"]).fill({"alias": ""}) == "/rooms?all=1"


async def test_every_alias_arrives_as_it_was(service: Service) -> None:
    texts = ["a/b", "a?b", "a#b", "ü ö", "%2e%2e", "..%2f", "{alias}", "a+b", "😀", "a;b=c&d", "\\"]
    service.rooms = {text: {"name": text} for text in texts}
    async with source(service) as made:
        for text in texts:
            found = await by_alias(made).ask(alias=text)
            assert list(found.rows) == [{"name": text}], (text, service.paths[-1])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("rooms", "is not a path"),
        ("//evil.example/rooms", "is not a path"),
        ("/rooms#x", "has a #"),
        ("/rooms/{", "has a single"),
        ("/rooms/{als}", r"has the parameter \{als\}; there is: \{alias\}"),
        ("/rooms/{alias.host}", "has the parameter"),
        ("/rooms/{alias!r}", "has the parameter"),
    ],
)
def test_a_query_is_checked(query: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        UrlTemplate(query, ["alias"])


def test_a_token_that_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    written = {"url": "https://h", "token_env": "CANARY_TOKEN"}
    for token in ("a\x1bb", "a\x7f"):
        monkeypatch.setenv("CANARY_TOKEN", token)
        with pytest.raises(ValidationError, match=r"token_env\n.*has a control character"):
            HttpSettings.model_validate(written)
    monkeypatch.setenv("CANARY_TOKEN", "a\tb\N{LATIN SMALL LETTER E WITH ACUTE}")
    HttpSource(HttpSettings.model_validate(written))
