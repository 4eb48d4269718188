"""The kit for authors of plugins: requests, decisions without HTTP, the client, the audit lines."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web
from pydantic import create_model
from typing_extensions import override
from yarl import URL

from pexpolicy import (
    Conference,
    Continue,
    ParticipantPropertiesRequest,
    Plugin,
    PluginSettings,
    Reject,
    ServiceConfigurationRequest,
    hookimpl,
    testing,
    wall_clock,
)
from pexpolicy.testing import (
    ConfigError,
    Outcome,
    Server,
    capture_audit,
    client,
    decide,
    decide_sync,
    make_policy,
    make_request,
    url_of,
)
from tests.support import live_server, wire


class FrontDoor:
    """Lets people in until it closes."""

    class Settings(PluginSettings):
        closed: bool = False
        opens: int = 8

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.asked = 0

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> object:
        self.asked += 1
        if request.local_alias == "nowhere":
            return None
        if request.local_alias == "broken":
            msg = "the lock is jammed"
            raise RuntimeError(msg)
        if self.settings.closed:
            return Reject(reason="closed")
        return Conference(name="Hall", service_tag="", pin="47114711")


class Fallback:
    """Blocks, as plugins with a database driver do, and answers everything."""

    @hookimpl
    def service_configuration(self) -> object:
        return Continue(reason="fallback")


def service(**fields: Any) -> ServiceConfigurationRequest:
    request: ServiceConfigurationRequest = make_request("service_configuration", **fields)
    return request


# ---- decisions


async def test_a_class_decides_as_in_a_server() -> None:
    outcome = await decide(FrontDoor, service())
    assert (outcome.decided_by, outcome.endpoint) == ("front_door", "service_configuration")
    assert outcome.decision == Conference(name="Hall", service_tag="", pin="47114711")
    assert [(step.plugin, step.outcome) for step in outcome.steps] == [("front_door", "decided")]


def test_without_a_decision_the_default_applies() -> None:
    outcome = decide_sync(FrontDoor, service(local_alias="nowhere"))
    assert outcome.decided_by == "default"
    assert decide_sync(FrontDoor, make_request("media_location")).steps == []
    assert decide_sync((FrontDoor, {"closed": True}), service()).decision.reason == "closed"


def test_several_plugins_are_asked_in_the_order_given_unless_config_says_otherwise() -> None:
    plugins = [(FrontDoor, {"closed": True}), Fallback]
    assert decide_sync(plugins, service()).decided_by == "front_door"
    assert decide_sync(plugins[::-1], service()).decided_by == "fallback"
    config = {"plugins": {"fallback": {"priority": 1}}}
    assert decide_sync(plugins, service(), config=config).decided_by == "fallback"


def test_a_mapping_names_the_plugins_and_twins_get_numbers() -> None:
    nowhere = service(local_alias="nowhere")
    named = decide_sync({"north": FrontDoor, "south": (FrontDoor, {"closed": True})}, nowhere)
    assert [step.plugin for step in named.steps] == ["north", "south"]
    twins = decide_sync([FrontDoor, FrontDoor], nowhere)
    assert [step.plugin for step in twins.steps] == ["front_door", "front_door_2"]


def test_an_instance_is_asked_itself_and_keeps_its_state() -> None:
    door = FrontDoor(FrontDoor.Settings(closed=True))
    for _ in range(2):
        outcome = decide_sync(door, service())
        assert (outcome.decided_by, outcome.decision.action) == ("front_door", "reject")
    assert door.asked == 2


def test_a_plugin_that_fails_is_a_step_with_the_reason_and_is_logged_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "pexpolicy"):
        outcome = decide_sync([FrontDoor, Fallback], service(local_alias="broken"))
    (failed, decided) = outcome.steps
    assert (failed.outcome, decided.outcome) == ("failed", "decided")
    assert "RuntimeError: the lock is jammed (test_testing.py:" in failed.detail
    assert "the lock is jammed" in caplog.text
    assert "front_door" in caplog.text


def test_on_error_and_other_tables_come_from_config() -> None:
    broken = service(local_alias="broken")
    rejecting = {"plugins": {"front_door": {"on_error": "reject"}}}
    assert decide_sync(FrontDoor, broken, config=rejecting).decision.action == "reject"
    nobody = {"endpoints": {"service_configuration": {"default": "reject"}}}
    outcome = decide_sync(FrontDoor, service(local_alias="nowhere"), config=nobody)
    assert (outcome.decided_by, outcome.decision.action) == ("default", "reject")
    installed = {"plugins": {"domains": {"settings": {"allowed": ["example.com"]}}}}
    request = make_request("registration_alias", alias="eve@elsewhere.example")
    assert decide_sync(FrontDoor, request, config=installed).decided_by == "domains"


def test_a_configuration_file_can_be_asked() -> None:
    outcome = decide_sync(live_server.SHIPPED, service(local_alias="engineering"))
    assert outcome.decision == Conference(name="Engineering Room", service_tag="engineering-room")


class Misspelt(Plugin):
    """A hook that does not exist."""

    @hookimpl
    async def service_configuratoin(self) -> None:
        """Never asked."""


class Moody:
    """A constructor that fails."""

    def __init__(self, settings: PluginSettings) -> None:
        msg = "not today"
        raise OSError(msg)


class Wrapping:
    """A hook that wraps others."""

    @hookimpl(wrapper=True)
    def service_configuration(self) -> Any:
        return (yield)


def with_settings(model: Any) -> Any:
    """Return a class with these settings, which ignore unknown keys."""
    return type("Old", (FrontDoor,), {"Settings": model})


LAX = create_model("Settings", opens=(int, 8))
NESTED = type("S", (PluginSettings,), {"__annotations__": {"a": LAX}, "a": LAX()})
OLD: list[Any] = []
for settings in (LAX, NESTED):
    old = with_settings(settings)
    OLD += [old, (old, {}), old(settings()), [FrontDoor, old(None)]]


@pytest.mark.parametrize(
    ("plugins", "config", "said"),
    [
        *((one, None, "Settings of Old do not inherit PluginSettings") for one in OLD),
        ((FrontDoor, {"close": True}), None, "front_door.settings.close: unknown key.*'closed'"),
        ((FrontDoor, {"opens": "8"}), None, "front_door.settings.opens"),
        (Misspelt, None, "service_configuratoin"),
        (Misspelt(PluginSettings()), None, "misspelt.*service_configuratoin"),
        (Moody, None, "moody.* cannot be built: OSError: not today"),
        (Wrapping, None, "wrapper"),
        (PluginSettings, None, "plugin_settings"),
        (FrontDoor, {"plugins": {"front_dor": {}}}, "mean 'front_door'"),
        (FrontDoor, {"plugins": {"front_door": {"timout": 1.0}}}, "mean 'timeout'"),
        (FrontDoor, {"servr": {}}, "servr: unknown key"),
        (
            FrontDoor(FrontDoor.Settings()),
            {"plugins": {"front_door": {"settings": {"a": 1}}}},
            "a:",
        ),
    ],
)
def test_what_a_server_would_not_start_with_is_refused_here_too(
    plugins: object, config: Mapping[str, Any] | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        decide_sync(plugins, service(), config=config)


@pytest.mark.parametrize(
    "plugins",
    ["config.toml", None, ModuleType("m"), lambda: None, [None], [[FrontDoor]], PluginSettings()],
)
def test_what_is_no_plugin_is_refused(plugins: object) -> None:
    with pytest.raises(TypeError, match="is not a plugin: pass a class"):
        decide_sync(plugins, service())


@pytest.mark.parametrize(
    ("plugins", "config", "said"),
    [
        (
            (FrontDoor, {"closed": True}),
            {"plugins": {"front_door": {"settings": {"closed": False}}}},
            "given twice",
        ),
        (live_server.SHIPPED, {}, "a configuration file has its own"),
    ],
)
def test_config_that_contradicts_the_plugins_is_refused(
    plugins: object, config: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        decide_sync(plugins, service(), config=config)
    with pytest.raises(TypeError, match="str is not a request"):
        decide_sync(FrontDoor, "service_configuration")  # type: ignore[arg-type]


async def test_decide_now_in_a_coroutine_says_what_to_write_instead() -> None:
    with pytest.raises(RuntimeError, match=r"await decide"):
        decide_sync(FrontDoor, service())
    async with make_policy(FrontDoor).serving() as policy:
        with pytest.raises(TypeError, match="its own event loop"):
            decide_sync(policy, service())


class Recorder:
    """Opens something, and sees every decision."""

    def __init__(self, settings: PluginSettings) -> None:
        self.events: list[str] = []

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.events.append("opened")
        await asyncio.sleep(0)
        yield
        self.events.append("closed")

    @hookimpl
    async def participant_properties(self, request: ParticipantPropertiesRequest) -> None:
        self.events.append(f"asked about {request.remote_display_name}")

    @hookimpl
    async def on_decision(self, outcome: Outcome) -> None:
        self.events.append(f"told of {outcome.endpoint}")


async def test_each_decision_opens_and_closes_the_plugin_and_tells_observers() -> None:
    recorder = Recorder(PluginSettings())
    await decide(recorder, make_request("participant_properties", remote_display_name="Ann"))
    assert recorder.events == [
        "opened",
        "asked about Ann",
        "told of participant_properties",
        "closed",
    ]


async def test_a_policy_that_serves_is_opened_once_for_many_requests() -> None:
    recorder = Recorder(PluginSettings())
    async with make_policy([recorder, Fallback]).serving() as policy:
        for _ in range(3):
            await decide(policy, make_request("participant_properties"))
            assert (await decide(policy, service())).decided_by == "fallback"
        with pytest.raises(TypeError, match="a policy has its own"):
            await decide(policy, service(), config={})
    assert recorder.events.count("opened") == recorder.events.count("closed") == 1


# ---- the client


async def test_the_client_asks_the_real_application() -> None:
    async with client([FrontDoor, Fallback]) as http:
        reply = await http.get(url_of(service()))
        assert reply.status == 200
        assert reply.headers["Server"] == "pexpolicy"
        body = await reply.json()
        outcome = await decide(FrontDoor, service())
        assert body["decided_by"] == outcome.decided_by == "front_door"
        assert body["result"] == outcome.decision.set_fields()
        assert (await http.post(url_of(service()))).status == 405
        assert (await http.get("/elsewhere")).status == 404
        assert reply.url.host == "127.0.0.1"


@pytest.mark.parametrize("alias", ["sip:a+b@c.example", "50%25/ö?", "a b", "h323:+47;x=1"])
async def test_an_alias_in_the_path_arrives_as_it_was_given(alias: str) -> None:
    seen: list[str] = []

    class Watcher(Plugin):
        @hookimpl
        async def registration_alias(self, request: Any) -> None:
            seen.append(request.alias.raw)

    request = make_request("registration_alias", alias=alias)
    await decide(Watcher, request)
    async with client(Watcher) as http:
        await http.get(url_of(request))
    assert seen == [alias, alias]


async def test_the_client_keeps_to_credentials_and_base_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KIT_PASSWORD", "open sesame")
    config = {
        "server": {"base_path": "/api/pexip"},
        "auth": {"user": "node", "password_env": "KIT_PASSWORD"},
    }
    url = url_of(service(), "/api/pexip")
    async with client(FrontDoor, config=config) as http:
        assert (await http.get(url)).status == 401
        sent = wire.basic("node", "open sesame")
        assert (await http.get(url, headers=sent)).status == 200
        assert (await http.get(url_of(service()), headers=sent)).status == 404


class Desk(Plugin):
    """Takes notes, and closes at night."""

    @override
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Reject | None:
        return Reject() if datetime.fromtimestamp(self._clock(), UTC).hour >= 20 else None

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.put("/notes", self.note)]

    async def note(self, request: web.Request) -> web.Response:
        return web.json_response(len(await request.read()))

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__(settings)
        self._clock = wall_clock()


NIGHT = datetime(2026, 12, 24, 21, 0, tzinfo=ZoneInfo("UTC"))


async def test_a_decision_at_a_time() -> None:
    async with client(Desk, at=NIGHT) as http, make_policy(Desk).serving() as policy:
        body = await (await http.get(url_of(service()))).json()
        decided = [
            body["action"],
            (await decide(Desk, service(), at=NIGHT)).decision.action,
            (await decide(policy, service(), at=NIGHT)).decision.action,
            (await decide(policy, service(), at=NIGHT.replace(hour=12))).decision.action,
        ]
    assert decided == ["reject", "reject", "reject", "continue"]
    with pytest.raises(ValueError, match="has no zone"):
        await decide(Desk, service(), at=NIGHT.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("path", "size", "token", "status"),
    [
        ("/plugins/desk/notes", 5, "open sesame", 200),
        ("/plugins/desk/notes", 5, "open", 401),
        ("/plugins/desk/notes", 5, "", 401),
        ("/plugins/desk/notes", 1 << 17, "open sesame", 413),
        ("/plugins/desk/other", 5, "open sesame", 404),
    ],
)
def test_the_routes_of_a_server_that_runs_in_a_thread(
    pexpolicy_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    size: int,
    token: str,
    status: int,
) -> None:
    monkeypatch.setenv("KIT_TOKEN", "open sesame")
    running = pexpolicy_server(Desk, config={"admin": {"token_env": "KIT_TOKEN"}}, at=NIGHT)
    assert running.admin_token == "open sesame"
    node, operator = (URL(url).port or 0 for url in (running.url, running.admin_url))
    assert wire.ask_blocking(node, str(url_of(service()))).json["action"] == "reject"
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(size)}
    head = wire.request_bytes(path, "PUT", {"Host": "x", "Connection": "close", **headers})
    assert asyncio.run(wire.send(operator, head + b"x" * size)).status == status


def test_a_server_that_does_not_start_says_why(pexpolicy_server: Callable[..., Server]) -> None:
    with pytest.raises(ConfigError, match="cannot be built: OSError: not today"):
        pexpolicy_server([Desk, Moody])


# ---- the audit


async def test_the_audit_lines_are_those_of_a_server_without_secrets() -> None:
    async with client(FrontDoor) as http:
        with capture_audit() as lines:
            outcome = await decide(FrontDoor, service(third_party_passcode="very secret"))
            await http.get(url_of(service()))
            await http.get("/nowhere")
    (first, second, third) = lines
    assert (first["event"], first["decision_id"]) == ("decision", outcome.decision_id)
    assert first["steps"][0]["plugin"] == "front_door"
    assert first["removed"] == ["third_party_passcode", "pin"]
    assert "very secret" not in json.dumps(lines)
    assert "47114711" not in json.dumps(lines)
    assert second["decided_by"] == "front_door"
    assert second["peer"] == "127.0.0.1"
    assert (third["event"], third["status"]) == ("refused", 404)


def test_collectors_are_independent_and_end_with_their_block() -> None:
    with capture_audit() as outer:
        decide_sync(FrontDoor, service())
        with capture_audit() as inner:
            decide_sync(FrontDoor, service())
        inner[0]["event"] = "changed"
        decide_sync(FrontDoor, service())
    decide_sync(FrontDoor, service())
    assert (len(outer), len(inner)) == (3, 1)
    assert {line["event"] for line in outer} == {"decision"}


def test_the_audit_lines_follow_the_configuration() -> None:
    shadow = {"plugins": {"front_door": {"mode": "shadow"}}}
    config = {**shadow, "privacy": {"personal": "dropped"}}
    with capture_audit() as lines:
        outcome = decide_sync(FrontDoor, service(remote_display_name="Alice"), config=config)
    assert outcome.decided_by == "default"
    found = [(line["event"], line.get("differs")) for line in lines]
    assert found == [("decision", None), ("shadow", True)]
    assert "remote_display_name" in lines[0]["removed"]
    assert "Alice" not in str(lines)


# ---- what it costs those who do not ask for it


@pytest.mark.parametrize(
    "code",
    [
        (
            "import sys, pexpolicy, pexpolicy.cli.main\n"
            "assert not [m for m in sys.modules if 'testing' in m or 'conformance' in m]"
        ),
        "import sys, pexpolicy.testing\nassert 'pytest' not in sys.modules",
        (
            "import sys\n"
            "from importlib.metadata import entry_points\n"
            "(plugin,) = [e for e in entry_points(group='pytest11') if 'pexpolicy' in e.value]\n"
            "name = plugin.load().__name__\n"
            "loaded = {m for m in sys.modules if m.startswith('pexpolicy')}\n"
            "assert loaded == {'pexpolicy', 'pexpolicy.models', name}, loaded\n"
        ),
    ],
    ids=["pexpolicy", "the kit", "the plugin of pytest"],
)
def test_an_import_loads_nothing_that_was_not_asked_for(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_everything_public_has_a_docstring_and_each_function_an_example() -> None:
    for name in testing.__all__:
        thing = getattr(testing, name)
        if callable(thing) and not isinstance(thing, type):
            assert thing.__doc__
            assert "::\n\n" in thing.__doc__, f"{name} has no example"
