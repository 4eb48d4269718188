"""The admin listener: health, status and metrics, and who may see them."""

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import hookimpl
from pexpolicy.access.warnings import preflight_problems
from pexpolicy.audit.journal import AuditState
from pexpolicy.config.schema.server import AdminTable
from pexpolicy.observability.status import PluginStatuses
from pexpolicy.observability.telemetry import ReadinessState, StateSources
from pexpolicy.server.route_listeners import bind
from tests.observability.test_metrics import ROOM
from tests.support import fake_plugins, live_server, secret_canaries, wire
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import Log, always, policy, raises
from tests.support.virtual_time import frozen
from tests.support.waiting import HANG_S, wait_until

GUARDED = ["/status", "/metrics"]
TOKEN = "TEST_ADMIN_TOKEN"


@pytest.mark.parametrize("path", ["/livez", "/readyz", *GUARDED])
async def test_each_page_is_read_and_not_written(tmp_path: Path, path: str) -> None:
    async with serve_with_admin(policy({}), tmp_path) as server:
        assert (await server.operator(path)).status == 200
        headed = await server.operator(path, method="HEAD")
        assert (headed.status, headed.body) == (200, b"")
        refused = await server.operator(path, method="POST")
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", wire.SERVICE, "/metrics/", "/../livez"])
async def test_there_is_nothing_else_to_see_and_no_policy(tmp_path: Path, path: str) -> None:
    async with serve_with_admin(policy({}), tmp_path) as server:
        reply = await server.operator(path)
        assert reply.status == 404
        assert b"/status" in reply.body
        assert server.server.lines() == []


@pytest.mark.parametrize("path", GUARDED)
async def test_nodes_do_not_find_the_pages_of_operators(tmp_path: Path, path: str) -> None:
    async with serve_with_admin(policy({}), tmp_path) as server:
        assert (await server.ask(path)).status == 404


async def test_with_a_token_status_and_metrics_want_it_and_health_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, secret_canaries.WORD)
    made = policy({}, admin={"token_env": TOKEN})
    async with serve_with_admin(made, tmp_path) as server:
        wrong = ("", "Bearer", "Bearer other", f"Basic {secret_canaries.WORD}", "Bearer ø")
        for path, given in zip(itertools.cycle(GUARDED), wrong, strict=False):
            refused = await server.operator(path, headers={"Authorization": given})
            assert (refused.status, refused.body) == (401, b"")
            assert refused.headers["www-authenticate"] == "Bearer"
        for path, scheme in itertools.product(GUARDED, ("Bearer", "bearer")):
            right = {"Authorization": f"{scheme} {secret_canaries.WORD}"}
            assert (await server.operator(path, headers=right)).status == 200
        assert (await server.operator("/livez")).status == 200
        assert (await server.operator("/readyz")).status == 200


async def test_wrong_tokens_are_answered_ever_later_and_are_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, secret_canaries.WORD)
    right = {"Authorization": f"Bearer {secret_canaries.WORD}"}
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serve_with_admin(policy({}, admin={"token_env": TOKEN}), tmp_path)
        )
        took = []
        for number in range(4):
            began = loop.time()
            headers = {"Authorization": f"Bearer {number}"}
            assert (await server.operator("/status", headers=headers)).status == 401
            took.append(loop.time() - began)
        assert took[0] >= 0.1
        assert took[3] >= 0.8
        with frozen():
            assert (await server.operator("/status")).status == 401
            text = (await server.operator("/metrics", headers=right)).body.decode()
        assert 'pexpolicy_refused_requests_total{reason="wrong token"} 5' in text
        assert "pexpolicy_auth_failures_total 5" in text
        line = server.server.lines()[0]
        assert (line["reason"], line["status"], line["path"]) == ("wrong token", 401, "/status")
        late = asyncio.create_task(
            server.operator("/status", headers={"Authorization": "Bearer x"})
        )
        await asyncio.sleep(0.1)
        with frozen():
            await stack.aclose()
    assert (await late).status == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9107", 200),
        ("[::1]:9107", 200),
        ("::1", 421),
        ("localhost", 200),
        ("LOCALHOST:9107", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9107", 421),
        ("localhost.evil.example", 421),
        ("[evil]:80", 421),
        ("[::1]evil.example", 421),
        ("127.0.0.1:80@evil.example", 421),
    ],
)
@pytest.mark.parametrize("path", GUARDED)
async def test_without_a_token_no_name_of_another_site_is_answered(
    tmp_path: Path, path: str, host: str, status: int
) -> None:
    async with serve_with_admin(policy({}), tmp_path) as server:
        assert (await server.operator(path, headers={"Host": host})).status == status
        assert (await server.operator("/livez", headers={"Host": host})).status == 200
        reasons = [line["reason"] for line in server.server.lines()]
        assert reasons == ["foreign host"] * (status == 421)


@pytest.mark.parametrize(
    ("admin", "problems"),
    [
        ({}, 0),
        ({"host": "::1"}, 0),
        ({"host": "0.0.0.0"}, 1),  # noqa: S104 - it is refused
        ({"host": "0.0.0.0", "token_env": TOKEN}, 0),  # noqa: S104 - with a token it may
        ({"host": "0.0.0.0", "enabled": False}, 0),  # noqa: S104 - nobody listens
    ],
)
def test_other_addresses_than_loopback_need_a_token(
    monkeypatch: pytest.MonkeyPatch, admin: dict[str, Any], problems: int
) -> None:
    monkeypatch.setenv(TOKEN, "a token")
    found = [*preflight_problems(fake_plugins.settings(admin=admin))]
    assert [problem.key for problem in found] == [("admin", "host")] * problems


@pytest.mark.parametrize(
    ("server", "admin", "ports", "same"),
    [
        ({"port": 9107}, {}, (None, None), True),
        ({"port": 9107, "host": "0.0.0.0"}, {}, (None, None), True),  # noqa: S104 - not bound
        ({"port": 9107, "host": "localhost"}, {}, (None, None), True),
        ({"port": 9107, "host": "localhost"}, {"host": "[::1]"}, (None, None), False),
        ({"port": 9107, "host": "::"}, {}, (None, None), False),
        ({"port": 9107, "host": "127.0.0.2"}, {}, (None, None), False),
        ({"port": 9107}, {"enabled": False}, (None, None), False),
        ({"port": 0}, {"port": 0}, (None, None), False),
        ({"port": 9107}, {}, (8000, None), False),
        ({"port": 9107}, {}, (None, 9108), False),
        ({}, {}, (9107, None), True),
    ],
)
def test_operators_and_nodes_cannot_have_the_same_port(
    server: dict[str, Any], admin: dict[str, Any], ports: tuple[int | None, int | None], same: bool
) -> None:
    settings = fake_plugins.settings(server={"allow_anonymous": True, **server}, admin=admin)
    found = [str(problem) for problem in preflight_problems(settings, ports=ports)]
    number = ports[0] or settings.server.port
    assert found == [f"admin.port: {number} is already server.port; choose another"] * same


@pytest.mark.parametrize("wanted", [{}, {"enabled": False}, {"host": "::1"}])
def test_a_reload_does_not_take_the_token_from_a_listener_that_others_reach(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any]
) -> None:
    monkeypatch.setenv(TOKEN, "a token")
    token = {"token_env": TOKEN}
    started = fake_plugins.settings(admin={"host": "0.0.0.0", **token}).admin  # noqa: S104 - with a token
    (problem,) = preflight_problems(fake_plugins.settings(admin=wanted), None, started)
    assert problem.key == ("admin", "host")
    assert "0.0.0.0 is reachable from other machines" in problem.text
    settings = fake_plugins.settings(admin={**wanted, **token})
    assert not [*preflight_problems(settings, None, started)]


def test_a_token_has_one_place() -> None:
    with pytest.raises(ValueError, match=r"write token_env .*, not both"):
        AdminTable(token_env="A", token_file="b")


def test_a_port_that_is_taken_costs_the_metrics_and_not_the_calls() -> None:
    log = Log()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert bind(fake_plugins.settings(), log, port) == (None, None)
    (event,) = log.events
    assert f"127.0.0.1:{port}" in event["event"]
    assert bind(fake_plugins.settings(admin={"enabled": False}), log) == (None, None)
    assert len(log.events) == 1


class TestReadiness:
    async def test_a_server_that_drains_or_cannot_write_its_audit_is_not_ready(
        self, tmp_path: Path
    ) -> None:
        audit = AuditState()
        sources = StateSources(audit=audit)
        async with serve_with_admin(policy({}), tmp_path, sources=sources) as server:
            assert (await server.operator("/readyz")).status == 200
            audit.status, audit.error = "failed", "no space left on device"
            reasons = b"the audit cannot be written: no space left on device\n"
            for ask, body in ((server.ask, b"not ready\n"), (server.operator, reasons)):
                reply = await ask("/readyz")
                assert (reply.status, reply.body) == (503, body)
                assert (await ask("/livez")).status == 200
            assert (await server.metrics())("ready") == 0
            audit.status = "degraded"
            assert (await server.operator("/readyz")).status == 200
            for waiting in ("buffered_bytes", "queued_bytes"):
                setattr(audit, waiting, 1)
                assert (await server.operator("/readyz")).status == 503
                setattr(audit, waiting, 0)
            sources.readiness = ReadinessState.DRAINING
            assert (await server.operator("/readyz")).body == b"draining\n"
            status = await server.status()
            assert (status["ready"], status["draining"]) == (False, True)

    async def test_its_reasons_are_for_those_who_may_read_the_status(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN, secret_canaries.WORD)
        audit = AuditState(status="failed", error="no space left on device")
        sources = StateSources(audit=audit)
        for admin, headers, body in (
            ({"token_env": TOKEN}, {}, b"not ready\n"),
            ({"token_env": TOKEN}, {"Authorization": "Bearer x"}, b"not ready\n"),
            ({}, {"Host": "evil.example"}, b"not ready\n"),
            ({}, {}, b"the audit cannot be written: no space left on device\n"),
            (
                {"token_env": TOKEN},
                {"Authorization": f"Bearer {secret_canaries.WORD}"},
                b"the audit cannot be written: no space left on device\n",
            ),
        ):
            made = policy({}, admin=admin)
            async with serve_with_admin(made, tmp_path, sources=sources) as server:
                reply = await server.operator("/readyz", headers=headers)
                assert (reply.status, reply.body) == (503, body)

    async def test_plugins_that_fail_do_not_change_it(self, tmp_path: Path) -> None:
        hooks = {"service_configuration": raises(ValueError())}
        made = policy({"toy": fake_plugins.plugin(**hooks)}, {"toy": {"breaker": True}})
        async with serve_with_admin(made, tmp_path) as server:
            for _ in range(10):
                await server.ask(wire.SERVICE)
            assert (await server.operator("/readyz")).status == 200
            (plugin,) = (await server.status())["plugins"]
            assert plugin["breaker_open"]
            assert plugin["calls"] == {"failed": 5, "skipped": 5}


async def test_the_status_says_what_runs_and_who_called(tmp_path: Path) -> None:
    made = policy({"toy": fake_plugins.plugin(service_configuration=always(ROOM))})
    async with serve_with_admin(made, tmp_path) as server:
        await server.ask(f"{wire.SERVICE}?node_ip=10.44.7.5&local_alias=a")
        await server.ask("/policy/v1/policy/v1/service/configuration")
        told = await server.status()
    assert told["ready"]
    assert told["workers"] == 1
    assert told["config"]["policy_hash"] == made.policy_hash
    assert 0 <= told["config"]["age"] < 60
    assert told["endpoints"]["service_configuration"] == {"continue": 1}
    assert told["refused"] == {"unknown path": 1}
    (plugin,) = told["plugins"]
    assert (plugin["name"], plugin["version"], plugin["mode"]) == ("toy", "1.0", "decide")
    assert plugin["hooks"] == ["service_configuration"]
    refused, called = told["nodes"]
    assert (refused["node"], refused["age"], refused["calls"]) == ("127.0.0.1", None, 0)
    assert refused["refused_because"] == "unknown path"
    assert (called["node"], called["calls"], called["last_refused"]) == ("10.44.7.5", 1, None)
    assert 0 <= called["age"] < 60


async def test_the_status_says_why_a_node_is_kept_out(tmp_path: Path) -> None:
    made = policy({}, access={"networks": ["10.44.0.0/16"]})
    async with serve_with_admin(made, tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port)
        writer.write(b"G")  # a silent client is accepted after some seconds only
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        told = await server.status()
    assert told["refused"] == {"network not allowed": 1}
    (kept_out,) = told["nodes"]
    assert (kept_out["node"], kept_out["refused_because"]) == ("127.0.0.1", "network not allowed")


async def test_no_page_holds_a_secret_or_the_name_of_a_person(tmp_path: Path) -> None:
    made = policy({"toy": fake_plugins.plugin(service_configuration=always(ROOM))})
    query = secret_canaries.query("service_configuration")
    async with serve_with_admin(made, tmp_path) as server:
        await server.ask(f"{wire.SERVICE}?{query}&remote_alias=alice@example.com")
        for path in GUARDED:
            page = (await server.operator(path)).body.decode()
            assert not secret_canaries.find_canaries(page)
            assert "alice" not in page


SAID: dict[Any, Any] = {"rooms": 7, "since": None, 3: {"a": [1]}, "odd": {1}}


def speaks(status: Callable[[], Any] | None = None) -> type:
    """A plugin with this hook for its status."""
    hooks = {"status": staticmethod(hookimpl(status))} if status else {}
    base = fake_plugins.plugin(service_configuration=always(None))
    return type("Speaks", (base,), hooks)


async def at_once() -> Any:
    return SAID


def in_a_thread() -> Any:
    assert threading.current_thread() is not threading.main_thread()
    return SAID


async def too_much() -> Any:
    return {"all": "x" * 100_000}


async def no_mapping() -> Any:
    return ["rooms"]


async def leaves() -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize("spoken", [at_once, in_a_thread])
async def test_the_status_holds_what_a_plugin_says_of_itself(tmp_path: Path, spoken: Any) -> None:
    async with serve_with_admin(
        policy({"toy": speaks(spoken), "silent": speaks()}), tmp_path
    ) as server:
        speaking, silent = (await server.status())["plugins"]
    assert speaking["status"] == {"rooms": 7, "since": None, "3": {"a": [1]}, "odd": "{1}"}
    assert "problem" not in speaking
    assert "status" not in silent


@pytest.mark.parametrize(
    ("spoken", "problem"),
    [
        (no_mapping, "it gave list, and not a mapping"),
        (too_much, "bytes of JSON, and 65536 are allowed"),
        (leaves, "SystemExit"),
    ],
)
async def test_a_status_that_cannot_be_shown_is_a_problem_of_its_plugin_alone(
    tmp_path: Path, spoken: Any, problem: str
) -> None:
    async with serve_with_admin(
        policy({"toy": speaks(spoken), "fine": speaks(at_once)}), tmp_path
    ) as server:
        wrong, fine = (await server.status())["plugins"]
        assert problem in wrong["problem"]
        assert "status" not in wrong
        assert fine["status"]["rooms"] == 7
        assert (await server.ask(wire.SERVICE)).status == 200


@pytest.fixture
def stuck() -> Iterator[tuple[type, list[int], threading.Event]]:
    asked: list[int] = []
    go_on = threading.Event()

    def status() -> dict[str, int]:
        asked.append(1)
        go_on.wait(20)
        return {"asked": len(asked)}

    yield speaks(status), asked, go_on
    go_on.set()


async def test_a_status_that_hangs_is_not_waited_for_and_holds_one_thread(
    stuck: tuple[type, list[int], threading.Event],
) -> None:
    hangs, asked, go_on = stuck
    made = policy({"toy": hangs, "fine": speaks(at_once)})
    statuses = PluginStatuses(timeout=0.05)
    async with made.serving():
        for _ in range(4):
            told = await statuses.collect(made.plugins)
            assert told["toy"] == {"problem": "its status gave no answer within 0.05 s"}
            assert told["fine"]["status"]["rooms"] == 7
        assert asked == [1]
        go_on.set()
        async with asyncio.timeout(HANG_S):
            while (told := await statuses.collect(made.plugins))["toy"].get("problem"):
                pass
        assert told["toy"]["status"]["asked"] >= 1
        statuses.close()


ISOLATED = """
import time
from pexpolicy import PluginSettings, hookimpl


class Apart:
    class Settings(PluginSettings):
        hangs: bool = False

    def __init__(self, settings: Settings) -> None:
        self.hangs = settings.hangs

    @hookimpl
    async def service_configuration(self) -> None:
        return None

    @hookimpl
    async def status(self) -> dict[str, int]:
        if self.hangs:
            time.sleep(20)
        return {"rooms": 7}
"""


def test_plugins_in_processes_of_their_own_say_it_too(tmp_path: Path) -> None:
    table = 'isolation = "process"\nprocesses = 1'
    stuck = f'[plugins.stuck]\nplugin = "apart"\n{table}\nsettings.hangs = true'
    config = live_server.drop_in(tmp_path, "apart", ISOLATED, f"{table}\n{stuck}")
    with live_server.running(config) as server:
        apart, hangs = server.operator("/status").json["plugins"]
        assert apart["status"] == {"rooms": 7}
        assert "no answer within" in hangs["problem"]

        def are_asked() -> bool:
            server.ask(wire.SERVICE)
            steps = server.lines()[-1]["steps"]
            return [step["outcome"] for step in steps] == ["abstained", "abstained"]

        # The worker that was late is replaced by one that takes calls.
        wait_until(are_asked)
