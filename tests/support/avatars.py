"""Pictures, asking the plugin `avatars`, and a server that replies as Microsoft Graph does."""

import asyncio
import io
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from pexpolicy import Avatar, Outcome
from pexpolicy.policy import Policy
from pexpolicy.testing import decide, make_request

RED, BLUE = (220, 30, 30), (30, 30, 220)
Color = tuple[int, int, int]
TENANT, CLIENT, SECRET = "example.onmicrosoft.com", "11111111-2222", "a client secret"


def picture(
    size: tuple[int, int] = (300, 200),
    color: Color = RED,
    *,
    kind: str = "JPEG",
    right: Color | None = None,
    orientation: int | None = None,
    mode: str = "RGB",
) -> bytes:
    """Return a picture; with another colour on the right half, or with EXIF data."""
    image = Image.new("RGB", size, color)
    if right is not None:
        image.paste(right, (size[0] // 2, 0, *size))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        exif[0x010F] = "a camera"
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **({"exif": exif} if orientation is not None else {}))
    return out.getvalue()


def image_of(outcome: Outcome) -> Image.Image:
    """Return the picture that was decided, decoded."""
    assert isinstance(outcome.decision, Avatar), [str(step) for step in outcome.steps]
    image = Image.open(io.BytesIO(outcome.decision.image))
    image.load()
    return image


def color_of(outcome: Outcome, at: tuple[float, float] = (0.5, 0.5)) -> Color:
    """Return the one of the two colours that a point of the picture has."""
    image = image_of(outcome)
    pixel = image.getpixel((int(image.width * at[0]), int(image.height * at[1])))
    assert isinstance(pixel, tuple)
    red, _, blue = pixel
    return RED if red > blue else BLUE


@dataclass(frozen=True)
class Asker:
    """Asks a serving policy for pictures."""

    policy: Policy

    async def __call__(
        self, alias: str = "anna@example.com", width: int = 60, height: int = 60, **fields: Any
    ) -> Outcome:
        request = make_request(
            "participant_avatar", alias=alias, width=width, height=height, **fields
        )
        return await decide(self.policy, request)

    async def step(self, alias: str = "anna@example.com", **fields: Any) -> tuple[str, str]:
        """Return what the plugin did, and the details."""
        step = (await self(alias, **fields)).steps[0]
        return step.outcome, step.detail


Serving = Callable[..., AbstractAsyncContextManager[Asker]]
"""Opens the plugin with settings."""


@dataclass
class GraphServer:
    """Tokens and photos. Its clock can be set forward, and the next replies can be chosen."""

    url: str = ""
    photos: dict[str, bytes] = field(default_factory=dict)
    """By the name or id of the user."""
    mails: dict[str, list[str]] = field(default_factory=dict)
    """The ids of the users with an address."""
    searches: list[str] = field(default_factory=list)
    """The addresses of the filters."""
    lifetime: int = 3599
    now: float = field(default_factory=time.time)
    token_delay: Callable[[], Any] = lambda: asyncio.sleep(0)
    """Awaited before a token is sent."""
    token_replies: list[web.Response] = field(default_factory=list)
    photo_replies: list[web.Response] = field(default_factory=list)
    valid: dict[str, float] = field(default_factory=dict)
    """The expiry of the tokens."""
    token_requests: int = 0
    photo_requests: list[str] = field(default_factory=list)
    """The raw paths."""
    all_tokens: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the table `graph`, without the secret."""
        return {
            "tenant": TENANT,
            "client_id": CLIENT,
            "authority": self.url,
            "endpoint": f"{self.url}/v1.0",
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        app.router.add_get("/v1.0/users", self._search)
        app.router.add_get("/v1.0/users/{principal}/photo/$value", self._photo)
        async with TestServer(app, shutdown_timeout=0.1) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield

    @staticmethod
    def refusal() -> web.Response:
        """Return the reply to a secret that is wrong."""
        return _login_error(401, "invalid_client", 7000215, "Invalid client secret.")

    async def _token(self, request: web.Request) -> web.Response:
        self.token_requests += 1
        await self.token_delay()
        if self.token_replies:
            return self.token_replies.pop(0)
        assert request.content_type == "application/x-www-form-urlencoded"
        form = {**await request.post(), "tenant": request.match_info["tenant"]}
        expected = [
            ("tenant", TENANT, 400, "invalid_request", 90002),
            ("grant_type", "client_credentials", 400, "unsupported_grant_type", 70003),
            ("client_id", CLIENT, 400, "unauthorized_client", 700016),
            ("client_secret", SECRET, 401, "invalid_client", 7000215),
            ("scope", f"{self.url}/.default", 400, "invalid_scope", 1002012),
        ]
        for name, value, status, error, number in expected:
            if form.get(name) != value:
                return _login_error(status, error, number, f"The {name} is not valid.")
        token = f"eyJ0eXAi.token-{next(self.numbers)}"
        self.valid[token] = self.now + self.lifetime
        self.all_tokens.append(token)
        expiry = {"expires_in": self.lifetime, "ext_expires_in": self.lifetime}
        return web.json_response({"token_type": "Bearer", "access_token": token, **expiry})

    def _is_authorized(self, request: web.Request) -> bool:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and self.valid.get(token, 0) > self.now

    async def _search(self, request: web.Request) -> web.Response:
        if not self._is_authorized(request):
            return _expired()
        written = re.fullmatch(r"mail eq '((?:[^']|'')*)'", request.query["$filter"], re.DOTALL)
        if written is None or request.query.keys() != {"$filter", "$select", "$top"}:
            return graph_error(400, "BadRequest", "Invalid filter clause.")
        mail = written[1].replace("''", "'")
        self.searches.append(mail)
        return web.json_response({"value": [{"id": found} for found in self.mails.get(mail, ())]})

    async def _photo(self, request: web.Request) -> web.Response:
        self.photo_requests.append(request.raw_path)
        if self.photo_replies:
            return self.photo_replies.pop(0)
        if not self._is_authorized(request):
            return _expired()
        image = self.photos.get(request.match_info["principal"])
        if image is None:
            return graph_error(404, "ImageNotFound", "The photo wasn't found.")
        return web.Response(body=image, content_type="image/jpeg")


def _expired() -> web.Response:
    text = "Lifetime validation failed, the token is expired."
    return graph_error(401, "InvalidAuthenticationToken", text)


def graph_error(status: int, code: str, text: str, **headers: str) -> web.Response:
    """Return an error as Graph sends it."""
    inner = {"date": "2026-11-27T06:00:00", "request-id": "0000", "client-request-id": "0000"}
    body = {"error": {"code": code, "message": text, "innerError": inner}}
    written = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=status, headers=written)


def _login_error(status: int, error: str, number: int, text: str) -> web.Response:
    text = f"AADSTS{number}: {text} Trace ID: 0000 Correlation ID: 0000"
    body = {"error": error, "error_description": text, "error_codes": [number]}
    return web.json_response(body, status=status)
