"""Small policy servers for the conformance test: a sound one, and the parts of faulty ones."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from multidict import MultiMapping
from PIL import Image

from pexpolicy.endpoints import ENDPOINTS

SERVICE, PARTICIPANT, LOCATION = (
    "service_configuration",
    "participant_properties",
    "media_location",
)
AVATAR, DIRECTORY, REGISTRATION = (
    "participant_avatar",
    "directory_information",
    "registration_alias",
)
JSON = "application/json"
ROOM_UUID = "11111111-2222-3333-4444-555555555555"


@dataclass
class Question:
    """One request, with its endpoint and its number."""

    endpoint: str
    alias: str
    raw_alias: str
    query: MultiMapping[str]
    raw_query: str
    number: int
    request: web.Request

    def get(self, name: str) -> str:
        return self.query.get(name, "")


Answer = Callable[[Question], web.StreamResponse | Awaitable[web.StreamResponse]]


def says(body: object, status: int = 200, content_type: str = JSON) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type=content_type)


def success(result: object = None, action: str | None = None, **extra: object) -> web.Response:
    body: dict[str, object] = {"status": "success"}
    if action is not None:
        body["action"] = action
    if result is not None:
        body["result"] = result
    return says(body | extra)


def go_on(_: Question | None = None) -> web.Response:
    return success(action="continue")


def not_found(_: Question) -> web.Response:
    return web.Response(status=404)


def room(question: Question, **fields: object) -> dict[str, Any]:
    name = question.get("local_alias") or "Lobby"
    if question.get("call_direction") == "dial_out":
        name = question.get("service_name")
    needed = {"name": name, "service_tag": "t", "service_type": "conference"}
    return {n: v for n, v in (needed | fields).items() if v is not ...}


def picture(size: tuple[int, int], kind: str = "JPEG", mode: str = "RGB", shade: int = 90) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, shade if mode == "L" else (shade,) * len(mode)).save(out, kind)
    return out.getvalue()


def size_of(question: Question) -> tuple[int, int]:
    return int(question.get("width")), int(question.get("height"))


PEOPLE = ("Ada", "ali", "Alice", "alistair", "Zoë")


def entries(question: Question) -> list[dict[str, str]]:
    found = [
        {"alias": f"{n.lower()}@example.com", "description": n, "username": ""}
        for n in PEOPLE
        if n.lower().startswith(question.get("q").lower())
    ]
    return found[: int(question.get("limit"))]


def sound_service(question: Question) -> web.StreamResponse:
    caller = question.get("call_direction") != "non_dial" and question.get("local_alias")
    if not caller or question.get("breakout_uuid"):
        return go_on()
    return success(room(question), "continue", reason=str(question.number))


def sound_picture(question: Question) -> web.StreamResponse:
    return web.Response(body=picture(size_of(question)), content_type="image/jpeg")


def sound_registration(question: Question) -> web.StreamResponse:
    if question.get("auth_type").strip('"') == "sso":
        return success({}, "continue")
    return success({"username": "alice", "password": "secret"})


SOUND: dict[str, Callable[[Question], web.StreamResponse]] = {
    SERVICE: sound_service,
    PARTICIPANT: go_on,
    LOCATION: lambda _: success({"location": "London", "overflow_locations": ["Oslo"]}),
    AVATAR: sound_picture,
    DIRECTORY: lambda question: success(entries(question)),
    REGISTRATION: sound_registration,
}


def sound(question: Question) -> web.StreamResponse:
    """The answer of a server without a fault."""
    return SOUND[question.endpoint](question)


def _question(request: web.Request, number: int) -> Question | None:
    path = request.rel_url.raw_path
    for name, endpoint in ENDPOINTS.items():
        exact = not endpoint.path.endswith("/")
        if path == endpoint.path if exact else path.startswith(endpoint.path):
            raw = "" if exact else path[len(endpoint.path) :]
            query = request.rel_url.query
            raw_query = request.rel_url.raw_query_string
            return Question(name, unquote(raw), raw, query, raw_query, number, request)
    return None


@asynccontextmanager
async def serving(answer: Answer, *, max_line: int = 65536) -> AsyncIterator[str]:
    """A server that answers every question with ``answer``; gives its URL."""
    number = 0

    async def view(request: web.Request) -> web.StreamResponse:
        nonlocal number
        number += 1
        question = _question(request, number)
        if question is None:
            return web.Response(status=404)
        reply = answer(question)
        return reply if isinstance(reply, web.StreamResponse) else await reply

    application = web.Application()
    application.router.add_route("*", r"/{path:[\s\S]*}", view)
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=0.1,
        max_line_size=max_line,
        max_field_size=max_line,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


Bytes = Callable[[bytes], bytes]


@asynccontextmanager
async def speaking(
    reply: Bytes, *, closes: bool = False, hangs: bool = False
) -> AsyncIterator[str]:
    """A server that answers each request with raw bytes; no HTTP library keeps it from lying."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply(head))
                await writer.drain()
                if hangs:
                    await over.wait()
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=1 << 17)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        over.set()
        server.close()
        await asyncio.sleep(0)
