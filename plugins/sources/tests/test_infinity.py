"""Driver ``infinity`` with the stand-in of the Management API, and its names in a server."""

import asyncio
import base64
import json
import os
import random
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from pydantic import ValidationError

from pexpolicy.cli.main import main
from pexpolicy.testing import ConfigError, ManagementApi, Simulator, make_policy, make_request
from pexpolicy_sources import QueryError, SourceError, SourceUnavailableError
from pexpolicy_sources.infinity import RESOURCES, InfinitySettings, InfinitySource
from tests.support import live_server, wire
from tests.support.waiting import HANG_S, until, wait_until

PASSWORD = "of the platform"
PLUGINS = """
[plugins.rooms.settings.rooms."clinic@example.com"]
name = "Clinic"
service_tag = ""
ivr_theme_name = "Acme"
"""


def platform(themes: Iterable[str] = ("Acme", "Board", "Blue", "Green")) -> ManagementApi:
    """Return an API with a name of each kind, and these themes."""
    api = ManagementApi()
    for kind, resource in RESOURCES.items():
        if kind != "themes":
            api.add(resource, {"name": f"One of {kind}"})
    api.add("ivr_theme", *({"name": name} for name in themes))
    return api


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    return path


def source(url: str, secret: Path, **keys: Any) -> InfinitySource:
    login = {"user": "reader", "password_file": str(secret)}
    made = InfinitySource(InfinitySettings.model_validate({"url": url, **login, **keys}))
    made.slept = []  # type: ignore[attr-defined]

    async def sleep(seconds: float) -> None:
        made.slept.append(seconds)  # type: ignore[attr-defined]

    made.sleep = sleep
    return made


def themes(made: InfinitySource) -> set[str]:
    return set(made.listed_names()["themes"].names)


async def test_each_object_is_read_once_page_by_page(secret: Path) -> None:
    api = platform()
    api.add("teams_proxy", *({"name": f"Proxy {n}"} for n in range(2500)))
    async with api.serving() as url, source(url, secret) as made:
        found, others = await asyncio.gather(
            made.objects("teams_proxy"), made.objects("ivr_theme", name="Board")
        )
    assert len({row["name"] for row in found}) == len(found) == 2501
    assert {row["name"] for row in others} == {"Board"}
    assert [path.partition("?")[2] for path in api.paths if "teams" in path] == [
        "limit=1000&offset=0", "limit=1000&offset=1000", "limit=1000&offset=2000"
    ]  # fmt: skip


async def test_the_people_of_the_simulator_are_read(secret: Path) -> None:
    calls = Simulator(random.Random(7))
    ann = calls.join("meet.acme", "webrtc", role="chair", tag="t=acme")
    gone = calls.join("meet.acme", "sip")
    calls.leave(gone)
    async with ManagementApi(calls).serving() as url, source(url, secret) as made:
        people = await made.objects("status/participant", conference="meet.acme")
        (room,) = await made.objects("status/conference")
    assert {person["id"] for person in people} == {leg["uuid"] for leg in ann.legs}
    assert people[0]["role"] == "chair"
    assert "Z" not in people[0]["connect_time"]
    assert (room["name"], room["tag"]) == ("meet.acme", "t=acme")


@pytest.mark.parametrize("fault", ["totals", "twice"])
async def test_a_list_that_changes_while_it_is_read_is_whole(fault: Any, secret: Path) -> None:
    api = platform(f"Theme {n}" for n in range(2100))
    api.faults["ivr_theme"] = fault
    async with api.serving() as url, source(url, secret) as made:
        rows = await made.objects("ivr_theme")
        assert len(api.paths) == (9 if fault == "totals" else 3)
        api.faults["sip_proxy"] = fault
        assert len(await made.objects("sip_proxy")) == 1
    assert len(rows) == len({row["id"] for row in rows}) == 2100


async def test_a_list_shorter_than_its_total_is_not_used(secret: Path) -> None:
    api = platform()
    async with api.serving() as url, source(url, secret) as made:
        await made.refresh_names()
        before = made.listed_names()["themes"].names
        api.faults["ivr_theme"] = "cut"
        await made.refresh_names()
        assert (made.listed_names()["themes"].names, [*made.problems]) == (before, ["ivr_theme"])


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("unauthorized", "HTTP 401"),
        ("forbidden", "HTTP 403"),
        ("busy", "HTTP 429"),
        ("html", "text/html"),
        ("redirect", "HTTP 302"),
        ("broken", "HTTP 500"),
    ],
)
@pytest.mark.parametrize("resource", ["*", "ivr_theme"])
async def test_after_a_fault_the_last_names_are_kept(
    fault: Any, problem: str, resource: str, secret: Path
) -> None:
    api = platform()
    async with api.serving() as url, source(url, secret) as made:
        await made.refresh_names()
        before = dict(made.listed_names())
        api.faults[resource] = fault
        api.add("ivr_theme", {"name": "New"})
        if resource == "ivr_theme":
            await made.refresh_names()
            assert problem in made.listed_names()["themes"].problem
            assert made.listed_names()["themes"].fetched_at == before["themes"].fetched_at
            assert made.listed_names()["locations"].fetched_at > before["locations"].fetched_at
        else:
            with pytest.raises(SourceUnavailableError, match=problem):
                await made.refresh_names()
            problems = {one.problem for one in made.listed_names().values()}
            assert problem in problems.pop()
            assert not problems
            assert made.listed_names()["themes"].fetched_at == before["themes"].fetched_at
        assert themes(made) == {"Acme", "Board", "Blue", "Green"}
        api.faults.clear()
        made.clock = lambda: float("inf")
        await made.refresh_names()
        assert "New" in themes(made)


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        ([], "has 0 of 4 names"),
        (["Acme"], "has 1 of 4 names"),
        (["Acme", "Sky"], ""),
        (["Acme", "a", "b", "c", "d"], ""),
    ],
)
async def test_a_list_that_is_cut_is_not_used(now: list[str], kept: str, secret: Path) -> None:
    api = platform()
    async with api.serving() as url, source(url, secret) as made:
        await made.refresh_names()
        del api.objects["ivr_theme"][:]
        api.add("ivr_theme", *({"name": name} for name in now))
        await made.refresh_names()
        assert themes(made) == ({"Acme", "Board", "Blue", "Green"} if kept else set(now))
        problem = made.listed_names()["themes"].problem
        assert kept in problem if kept else not problem


async def test_wrong_credentials_are_not_tried_again_and_again(secret: Path) -> None:
    api, now = platform(), 0.0
    api.faults["*"] = "unauthorized"
    async with api.serving() as url, source(url, secret) as made:
        made.clock = lambda: now
        for _ in range(5):
            with pytest.raises(SourceUnavailableError, match="HTTP 401"):
                await made.refresh_names()
        assert len(api.paths) == 3
        now = 61.0
        with pytest.raises(SourceUnavailableError):
            await made.refresh_names()
        assert len(api.paths) == 4


@pytest.mark.parametrize(
    ("written", "waits"),
    [("7", [7.0, 7.0]), (None, [5, 10]), ("86400", [60.0, 60.0]), ("soon", [5, 10])],
)
async def test_429_is_repeated_when_the_api_says(
    written: str | None, waits: list[float], secret: Path
) -> None:
    api = platform()
    api.faults["ivr_theme"], api.retry_after = "busy", written
    async with api.serving() as url, source(url, secret) as made:
        with pytest.raises(SourceUnavailableError, match="429"):
            await made.objects("ivr_theme")
        assert made.slept == waits  # type: ignore[attr-defined]


async def test_requests_are_at_most_so_many_a_minute(secret: Path) -> None:
    api, now = platform(), 100.0
    async with api.serving() as url, source(url, secret, requests_per_minute=10) as made:
        made.clock = lambda: now
        for _ in range(11):
            await made.objects("ivr_theme")
        assert made.slept == [60.0]  # type: ignore[attr-defined]


async def test_a_page_elsewhere_gets_no_credentials(secret: Path) -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        elsewhere = "http://127.0.0.1:9/api/admin/configuration/v1/x/?limit=1&offset=1"
        following = elsewhere if len(seen) == 1 else None
        return web.json_response({"meta": {"next": following}, "objects": [{"id": len(seen)}]})

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    async with TestServer(app) as server, source(str(server.make_url("")), secret) as made:
        assert len(await made.objects("x")) == 2


@pytest.mark.parametrize(
    "document",
    ["[]", "{}", '{"meta": {}, "objects": 1}', '{"meta": {}, "objects": [1]}', "[" * 10_000,
     '{"meta": {"next": "/?limit=1000&offset=0"}, "objects": []}'],
)  # fmt: skip
async def test_other_json_is_refused(document: str, secret: Path) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=document, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    async with TestServer(app) as server, source(str(server.make_url("")), secret) as made:
        with pytest.raises(SourceError):
            await made.objects("x")


async def test_an_oauth_client_signs_for_its_token(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (tmp_path / "key").write_bytes(key.private_bytes(*pkcs8, serialization.NoEncryption()))
    forms: list[dict[str, Any]] = []

    async def token(request: web.Request) -> web.Response:
        forms.append(dict(await request.post()))
        return web.json_response({"access_token": f"token{len(forms)}", "expires_in": 3600})

    async def handle(request: web.Request) -> web.Response:
        right = request.headers["Authorization"] == "Bearer token2"  # the first was revoked
        page = {"meta": {"next": None}, "objects": [{"id": 1}]}
        return web.json_response(page, status=200 if right else 401)

    app = web.Application()
    app.router.add_post("/oauth/token/", token)
    app.router.add_get("/{path:.*}", handle)
    async with TestServer(app) as server:
        keys = {"client_id": "c1", "client_key_file": str(tmp_path / "key"), "audience": "mgr"}
        keys |= {"url": str(server.make_url(""))}
        async with InfinitySource(InfinitySettings.model_validate(keys)) as made:
            assert len(await made.objects("x")) == 1
    head, claims, signature = forms[0]["client_assertion"].split(".")
    raw = _decoded(signature)
    numbers = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    signed = f"{head}.{claims}".encode()
    der = utils.encode_dss_signature(*numbers)
    key.public_key().verify(der, signed, ec.ECDSA(hashes.SHA256()))
    found = json.loads(_decoded(claims))
    assert (found["iss"], found["sub"], found["aud"]) == ("c1", "c1", "mgr")
    assert found["exp"] > found["iat"]
    assert found["jti"]


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"url": "http://mgr.example.com"}, "https://"),
        ({"user": None}, "write user and password_file"),
        ({"client_id": "c"}, "write user and password_file"),
        ({"command_user": "c"}, "go together"),
        ({"url": "https://mgr.example.com/?x"}, "leave out"),
    ],
)
def test_a_mistake_is_named(keys: dict[str, Any], text: str, secret: Path) -> None:
    usual = {"url": "https://mgr.example.com", "user": "a", "password_file": str(secret)}
    document = {name: value for name, value in {**usual, **keys}.items() if value is not None}
    with pytest.raises(ValidationError, match=text):
        InfinitySettings.model_validate(document)


def written(folder: Path, url: str, more: str = "") -> Path:
    """Write a configuration whose room has the theme Acme."""
    (folder / "password").write_text(PASSWORD)
    (folder / "config.toml").write_text(
        f'[sources.mgr]\ndriver = "infinity"\nurl = "{url}"\nuser = "reader"\n'
        f'password_file = "password"\ncache = "names.json"\n{more}\n{PLUGINS}'
    )
    return folder / "config.toml"


async def test_an_unknown_name_warns_and_is_sent(tmp_path: Path) -> None:
    api = platform()
    call = make_request("service_configuration", local_alias="clinic@example.com")
    async with api.serving() as url:
        config = written(tmp_path, url, '[infinity]\nsource = "mgr"')
        async with make_policy(config).serving() as policy:
            assert policy.all_names
            assert policy.all_names[0].source is not None
            await policy.all_names[0].source.refresh_names()
            assert not policy.all_names[0].unknown()
            api.objects["ivr_theme"][0]["name"] = "Acme 2"
            await policy.all_names[0].source.refresh_names()
            (unknown,) = policy.all_names[0].unknown()
            assert (unknown.kind, unknown.name, len(unknown.places)) == ("themes", "Acme", 1)
            assert "clinic@example.com" in unknown.shown[0]
            outcome = (await policy.answer(call, "")).outcome
            assert outcome.decided_by == "rooms"
            assert "'Acme' is not one of the themes of Infinity" in outcome.decision.warnings[-1]
            (warning,) = [one for one in policy.warnings if one.key[0] == "plugins"]
            assert warning.key[-1] == "ivr_theme_name"


async def test_names_written_by_hand_win(tmp_path: Path) -> None:
    async with platform(["Other", "Themes"]).serving() as url:
        config = written(tmp_path, url, '[infinity]\nsource = "mgr"\nthemes = ["Acme"]')
        async with make_policy(config).serving() as policy:
            assert policy.all_names
            assert policy.all_names[0].source is not None
            await policy.all_names[0].source.refresh_names()
            assert not policy.all_names[0].unknown()


async def test_a_renamed_theme_is_seen_everywhere_before_a_call_needs_it(tmp_path: Path) -> None:
    api, log = platform(), list[str]()
    more = 'every = 1.0\n[audit]\npath = "audit.jsonl"\n[infinity]\nsource = "mgr"'
    call = f"{wire.SERVICE}?local_alias=clinic%40example.com&protocol=sip"

    def watch(config: Path) -> None:
        with live_server.running(config, log=log) as server:
            wait_until((tmp_path / "names.json").exists)
            api.objects["ivr_theme"][0]["name"] = "Acme 2"
            gauge = 'pexpolicy_infinity_unknown_names{kind="themes"} 1'
            wait_until(lambda: gauge in server.operator("/metrics").body.decode())
            unknown = server.operator("/status").json["name_problems"]
            assert [(one["kind"], one["name"], one["uses"]) for one in unknown] == [
                ("themes", "Acme", 1)
            ]
            wait_until(lambda: any("a name is unknown to Infinity" in line for line in log))
            assert server.ask(call).json["decided_by"] == "rooms"
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: [one for one in server.lines() if one.get("accepted")])
            read = sum("ivr_theme" in path for path in api.paths) + 2
            wait_until(lambda: sum("ivr_theme" in path for path in api.paths) > read)

    async with api.serving() as url:
        config = written(tmp_path, url, more)
        await asyncio.to_thread(watch, config)
        for options in ([], ["--open"]):
            arguments = ["check", "--config", str(config), *options]
            result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
            assert result.exit_code == 0, result.output
            assert "'Acme' is not one of the themes of Infinity" in result.stderr
        api.faults["*"] = "broken"
        arguments = ["check", "--config", str(config), "--open"]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        kept = [line for line in result.stderr.splitlines() if "UTC are kept, as" in line]
        assert (result.exit_code, len(kept)) == (0, 1), result.output
    (said,) = (line for line in log if "a name is unknown to Infinity" in line)
    assert "clinic@example.com" in said


async def test_no_call_waits_for_a_slow_api(tmp_path: Path) -> None:
    api = platform()
    api.faults["*"], api.slow_s = "slow", 2 * HANG_S
    call = make_request("service_configuration", local_alias="clinic@example.com")
    async with api.serving() as url:
        async with asyncio.timeout(HANG_S):
            config = written(tmp_path, url, '[infinity]\nsource = "mgr"')
            async with make_policy(config).serving(in_server=True) as policy:
                await until(lambda: bool(api.paths))
                assert (await policy.answer(call, "")).outcome.decided_by == "rooms"
            assert len(api.paths) == 1
            async with make_policy(config).serving():
                await asyncio.sleep(0)
            assert len(api.paths) == 1


def test_a_source_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    more = '[sources.rows]\ndriver = "file"\npath = "rows.csv"\n[infinity]\nsource = "rows"'
    config = written(tmp_path, "https://mgr.example.com", more)
    with pytest.raises(ConfigError, match="NameSource"):
        make_policy(config)


async def test_a_resource_that_there_is_not_is_refused(secret: Path) -> None:
    async with ManagementApi().serving() as url, source(url, secret) as made:
        with pytest.raises(QueryError, match="404"):
            await made.objects("nothing")


async def test_a_command_is_used_only_if_the_schema_of_the_node_has_it(secret: Path) -> None:
    calls = Simulator(random.Random(7))
    people = [calls.join(name, "sip", tag="t=acme") for name in ("red", "red", "blue")]
    api, keys = ManagementApi(calls), {"command_user": "commander"}
    keys["command_password_file"] = str(secret)
    async with api.serving() as url, source(url, secret) as made:
        assert "no account for commands" in await made.command("participant/disconnect")
    api.commands = {"participant/disconnect"}
    async with api.serving() as url, source(url, secret, **keys) as made:
        assert await made.end_conferences("red", "t=acme") == [
            "this Infinity has no command conference/disconnect: HTTP 404 Not Found"
        ]
        api.commands.add("conference/disconnect")
        ids = [people[2].uuid, people[2].uuid, "unknown"]
        results = [await made.command("participant/disconnect", participant_id=one) for one in ids]
        assert results == ["done", "gone", "gone"]
        assert await made.end_conferences("red", "t=other") == []
        assert await made.end_conferences("red", "t=acme") == ["done"]
        assert await made.end_conferences("red", "t=acme") == []
    assert not any(calls.truth()["red"])
    keys["command_user"] = "reader"
    async with api.serving() as url, source(url, secret, **keys) as made:
        assert "HTTP 403" in await made.command("participant/disconnect", participant_id="x")
