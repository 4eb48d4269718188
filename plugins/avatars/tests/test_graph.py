"""Photos from Microsoft Graph: the token, its renewal, and what the replies mean."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Alias
from pexpolicy_avatars.settings import GraphSettings, is_plain
from pexpolicy_avatars.sources import Graph, PictureError
from tests.support.avatars import SECRET, GraphServer, Serving, graph_error, image_of, picture

ANNA = "anna@example.com"
Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(graph: GraphServer) -> Settings:
    graph.photos[ANNA] = picture((648, 648))
    return lambda **more: {"secret_env": "GRAPH_SECRET", **graph.settings, **more}


async def test_a_photo_is_fetched_with_a_token(
    serving: Serving, graph: GraphServer, settings: Settings
) -> None:
    async with serving(graph=settings()) as ask:
        outcome = await ask("sip:Anna@Example.com", width=64, height=48)
        assert image_of(outcome).size == (64, 48)
        assert outcome.decision.reason == "a picture from graph"
        assert await ask.step("bob@example.com") == ("abstained", "")
        assert await ask.step("bob@example.com") == ("abstained", "")
    assert graph.token_requests == 1
    assert graph.photo_requests == [
        "/v1.0/users/anna%40example.com/photo/$value",
        "/v1.0/users/bob%40example.com/photo/$value",
    ]


async def test_the_name_of_a_user_may_have_another_domain(
    serving: Serving, graph: GraphServer, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("a client secret\n")
    table = settings(user="{user}@corp.example", secret_file=str(tmp_path / "secret"))
    del table["secret_env"]
    graph.photos["anna@corp.example"] = picture()
    async with serving(graph=table) as ask:
        assert (await ask.step(ANNA))[0] == "decided"


async def test_a_user_may_be_found_by_mail(
    serving: Serving, graph: GraphServer, settings: Settings
) -> None:
    graph.mails = {ANNA: ["an id"], "o'neil@example.com": ["an id"], "x@example.com": ["1", "2"]}
    graph.photos = {"an id": picture(), "bob@example.com": picture()}
    async with serving(graph=settings(match="mail")) as ask:
        assert (await ask.step(ANNA))[0] == "decided"
        assert (await ask.step("O'Neil@example.com"))[0] == "decided"
        assert await ask.step("bob@example.com") == ("abstained", "")
        outcome, detail = await ask.step("x@example.com")
        assert (outcome, "no single user with this mail" in detail) == ("failed", True), detail
    assert graph.token_requests == 1


TEXTS = (
    st.lists(
        st.sampled_from(("'", "''", " or ", "mail eq ", "&$top=9", "%27", "@", "a")) | st.text()
    )
    .map("".join)
    .filter(lambda text: text.encode(errors="ignore").decode() == text)
)


@hypothesis.settings(max_examples=4)
@given(st.lists(TEXTS, min_size=8, unique_by=Alias))
async def test_no_alias_changes_the_filter(texts: list[str]) -> None:
    graph = GraphServer(mails={"victim@example.com": ["victim"]})
    os.environ["GRAPH_SECRET"] = SECRET
    async with graph.serving():
        table = {"secret_env": "GRAPH_SECRET", **graph.settings, "match": "mail"}
        source = Graph(GraphSettings.model_validate(table))
        async with source.opened():
            for alias in map(Alias, texts):
                graph.searches.clear()
                assert await source.fetch(alias) is None
                assert graph.searches == ([alias] if is_plain(alias) else [])


async def test_calls_at_once_share_one_token(
    serving: Serving, graph: GraphServer, settings: Settings
) -> None:
    graph.token_delay = lambda: asyncio.sleep(0.05)
    graph.photos |= {f"user-{number}@example.com": picture() for number in range(50)}
    async with serving(graph=settings()) as ask:
        steps = [ask.step(f"user-{number}@example.com") for number in range(50)]
        assert {outcome for outcome, _ in await asyncio.gather(*steps)} == {"decided"}
    assert graph.token_requests == 1
    assert len(graph.photo_requests) == 50


class Clocked:
    """Graph with a clock that its server shares."""

    def __init__(self, server: GraphServer, table: dict[str, Any]) -> None:
        self.server = server
        self.source = Graph(GraphSettings.model_validate(table), clock=lambda: server.now)

    async def fetch(self, alias: str = ANNA) -> bytes | None:
        """Return a photo, after a renewal that it started."""
        photo = await self.source.fetch(Alias(alias))
        await asyncio.gather(*self.source._requests._tasks.values(), return_exceptions=True)
        return photo


async def test_a_token_is_renewed_five_minutes_before_it_expires(
    graph: GraphServer, settings: Settings
) -> None:
    clocked = Clocked(graph, settings())
    async with clocked.source.opened():
        await clocked.fetch()
        graph.now += 3290
        await clocked.fetch()
        assert graph.token_requests == 1
        graph.now += 20
        await clocked.fetch()
        assert graph.token_requests == 2


async def test_a_short_token_is_renewed_at_half_of_its_time(
    graph: GraphServer, settings: Settings
) -> None:
    graph.lifetime = 60
    clocked = Clocked(graph, settings())
    async with clocked.source.opened():
        for _ in range(5):
            await clocked.fetch()
            graph.now += 29
            await clocked.fetch()
            graph.now += 2
    assert graph.token_requests == 5, "the first one, and four renewals"


async def test_a_valid_token_is_used_while_none_can_be_had(
    graph: GraphServer, settings: Settings
) -> None:
    clocked = Clocked(graph, settings())
    async with clocked.source.opened():
        await clocked.fetch()
        graph.token_replies = [web.Response(status=503) for _ in range(3)]
        graph.now += 3400
        for _ in range(2):
            assert await clocked.fetch() == graph.photos[ANNA]
        graph.now += 300
        with pytest.raises(PictureError, match=r"127\.0\.0\.1: HTTP 503 Service Unavailable"):
            await clocked.fetch()
        assert await clocked.fetch() == graph.photos[ANNA]


async def test_a_token_that_was_revoked_is_replaced_once(
    graph: GraphServer, settings: Settings
) -> None:
    clocked = Clocked(graph, settings())
    async with clocked.source.opened():
        await clocked.fetch()
        graph.valid.clear()
        photos = await asyncio.gather(*(clocked.fetch() for _ in range(10)))
        assert photos == [graph.photos[ANNA]] * 10
        assert graph.token_requests == 2
        refused = graph_error(401, "InvalidAuthenticationToken", "no")
        other = graph_error(401, "InvalidAuthenticationToken", "no")
        graph.photo_replies = [refused, other]
        with pytest.raises(PictureError, match=r"HTTP 401.*InvalidAuthenticationToken"):
            await clocked.fetch()
        assert graph.token_requests == 3


async def test_no_call_waits_for_the_renewal_of_a_valid_token(
    graph: GraphServer, settings: Settings
) -> None:
    clocked = Clocked(graph, settings())
    async with clocked.source.opened():
        await clocked.fetch()
        renewed = asyncio.Event()
        graph.token_delay = renewed.wait
        graph.now += 3400
        for _ in range(3):
            assert await clocked.source.fetch(Alias(ANNA)) == graph.photos[ANNA]
        assert graph.token_requests == 2
        renewed.set()
        await clocked.fetch()
        graph.now += 300
        await clocked.fetch()
    assert graph.token_requests == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_graph_gets_no_requests_while_it_asks_for_a_pause(
    graph: GraphServer, settings: Settings, status: int
) -> None:
    graph.photo_replies = [graph_error(status, "TooManyRequests", "slow", Retry_After="30")]
    clocked = Clocked(graph, settings())
    async with clocked.source.opened():
        with pytest.raises(PictureError, match=f"HTTP {status}.*TooManyRequests"):
            await clocked.fetch()
        graph.now += 29
        with pytest.raises(PictureError, match="wants no requests for 1 s"):
            await clocked.fetch()
        assert len(graph.photo_requests) == 1
        graph.now += 2
        assert await clocked.fetch() == graph.photos[ANNA]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"secret_env": "WRONG_SECRET"}, r"HTTP 401 .*\(invalid_client, AADSTS7000215\)"),
        ({"client_id": "unknown"}, r"HTTP 400 .*\(unauthorized_client, AADSTS700016\)"),
        ({"tenant": "other.example"}, r"HTTP 400 .*\(invalid_request, AADSTS90002\)"),
    ],
)
async def test_a_refused_application_is_a_failure_with_the_code(
    graph: GraphServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    says: str,
) -> None:
    monkeypatch.setenv("WRONG_SECRET", "hunter2 in the open")
    source = Graph(GraphSettings.model_validate(settings(**change)))
    async with source.opened():
        with pytest.raises(PictureError, match=says) as failed:
            await source.fetch(Alias(ANNA))
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "<html></html>"},
        {"text": "[]"},
        {"text": '{"access_token": "a"}'},
        {"text": '{"access_token": 1, "expires_in": 3599}'},
        {"text": '{"access_token": "a\\nb", "expires_in": 3599}'},
        {"text": '{"access_token": "a", "expires_in": null}'},
        {"text": '{"access_token": "a", "expires_in": "nan"}'},
        {"text": f'{{"access_token": "a", "expires_in": {"9" * 400}}}'},
        {"text": "[" * 100_000},
    ],
)
async def test_a_reply_without_a_token_is_a_failure(
    graph: GraphServer, settings: Settings, reply: dict[str, str]
) -> None:
    graph.token_replies = [web.Response(**reply)]  # type: ignore[arg-type]
    source = Graph(GraphSettings.model_validate(settings()))
    async with source.opened():
        with pytest.raises(PictureError, match="the reply has no token"):
            await source.fetch(Alias(ANNA))
        assert await source.fetch(Alias(ANNA)) == graph.photos[ANNA]


async def test_a_missing_permission_is_a_failure(
    serving: Serving, graph: GraphServer, settings: Settings
) -> None:
    text = "Insufficient privileges to complete the operation."
    graph.photo_replies = [graph_error(403, "Authorization_RequestDenied", text)]
    async with serving(graph=settings()) as ask:
        outcome, detail = await ask.step()
    assert outcome == "failed"
    assert "127.0.0.1: HTTP 403 Forbidden (Authorization_RequestDenied)" in detail


async def test_a_call_that_is_cancelled_leaves_the_token_to_the_others(
    graph: GraphServer, settings: Settings
) -> None:
    graph.token_delay = lambda: asyncio.sleep(0.05)
    source = Graph(GraphSettings.model_validate(settings()))
    async with source.opened():
        first = asyncio.create_task(source.fetch(Alias(ANNA)))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(source.fetch(Alias(ANNA)))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == graph.photos[ANNA]
    assert graph.token_requests == 1
