"""What faulty answers are made of."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from tests.conformance.servers import (
    JSON,
    ROOM_UUID,
    Answer,
    Question,
    picture,
    room,
    says,
    size_of,
    sound,
    success,
)


def status(code: int, **headers: str) -> Answer:
    return lambda _: web.Response(status=code, headers=headers)


def body(content: bytes, content_type: str = JSON) -> Answer:
    return lambda _: web.Response(body=content, content_type=content_type)


def envelope(**keys: object) -> Answer:
    return lambda _: says(keys)


def result(value: object, action: str | None = None) -> Answer:
    return lambda _: success(value, action)


def vmr(**fields: object) -> Answer:
    """A conference; a field that is ``...`` is left out."""
    return lambda question: success(room(question, **fields))


def when(broken: Callable[[Question], object], answer: Answer) -> Answer:
    """The answer where ``broken`` says so, else the sound one."""
    return lambda question: (answer if broken(question) else sound)(question)


def jpeg(
    change: Callable[[bytes], bytes] = bytes, content_type: str = "image/jpeg", **how: Any
) -> Answer:
    return lambda q: web.Response(
        body=change(
            picture(how.get("size") or size_of(q), **{k: v for k, v in how.items() if k != "size"})
        ),
        content_type=content_type,
    )


def block(**fields: object) -> dict[str, object]:
    return {"breakout": True, "breakout_uuid": ROOM_UUID, "breakout_name": "One"} | fields


def dialled(**fields: object) -> dict[str, object]:
    needed = {"local_alias": "a@example.com", "remote_alias": "b@example.com"}
    return {n: v for n, v in (needed | fields).items() if v is not ...}


def entry(**fields: object) -> dict[str, object]:
    needed = {"alias": "a@example.com", "description": "A", "username": ""}
    return {n: v for n, v in (needed | fields).items() if v is not ...}


def many(_: Question) -> web.Response:
    return success([entry(alias=f"a{n:02}@example.com") for n in range(11)])


def swapped(question: Question) -> web.Response:
    width, height = size_of(question)
    return web.Response(body=picture((height, width)), content_type="image/jpeg")


def named(read: Callable[[Question], str]) -> Answer:
    """Rooms that are named after something of the request."""
    return when(
        lambda q: q.get("local_alias") and q.get("call_direction") == "dial_in",
        lambda q: success(room(q, name=read(q) or "Lobby")),
    )


def raw(name: str) -> Callable[[Question], str]:
    """A parameter as it stands in the query."""
    return lambda q: dict(pair.split("=", 1) for pair in q.raw_query.split("&")).get(name, "")


def latin(name: str) -> Callable[[Question], str]:
    return lambda q: unquote_plus(raw(name)(q), "latin-1")


def about(read: Callable[[Question], str]) -> Answer:
    return lambda q: success({"remote_display_name": read(q) or "Nobody"})


def tagged(read: Callable[[Question], str]) -> Answer:
    return lambda q: success({}, "continue", alias=read(q))
