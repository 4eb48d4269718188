"""Mistakes of plugin authors: what they are told, at check wherever possible."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pydantic import SecretStr

from pexpolicy import (
    AliasMap,
    AliasSet,
    Conference,
    ConfigPath,
    Continue,
    PluginSettings,
    Refreshed,
    Secret,
    get_logger,
    hookimpl,
    metrics,
    read_secret,
    schedule,
)
from pexpolicy.config.plugin_settings import read_settings
from pexpolicy.config.problems import PluginBuildError
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import ConfigError
from pexpolicy.fields import FieldsOf
from pexpolicy.files import CacheFile
from pexpolicy.plugins import discovery
from pexpolicy.testing import PluginStartupError, decide_sync, make_policy, make_request

REQUEST = make_request("service_configuration")
ROOM = Conference(name="Room", service_tag="room")
IMPORTS = """
from contextlib import asynccontextmanager
from datetime import timedelta
from aiohttp import web
from pydantic import field_validator
from pexpolicy import Plugin, PluginSettings, Refreshed, SettingsError, Source, hookimpl, schedule
async def work(): pass
class BrokenError(Exception):
    def __str__(self): raise self
"""
HOOK = "    @hookimpl\n    async def service_configuration(self): pass\n"
ROUTES = "class Bad:\n    async def page({}): pass\n    @hookimpl\n    def routes(self):\n"
ROUTES += "        return [web.get('/a', self.page)]\n"
SETTINGS = "class S(PluginSettings):\n    {}\nclass Bad(Plugin[S]):\n"
SETTINGS += "    async def service_configuration(self, request): pass\n"
VALIDATED = "room: str\n    @field_validator('room')\n    @classmethod\n"
VALIDATED += "    def known(cls, value): return {}[value]"
TWICE = "class Bad:\n    def __init__(self, settings):\n"
TWICE += "        for _ in range(2): {}(work, every=60, name='same')\n" + HOOK
LIFESPAN = "class Bad:\n    @hookimpl\n    @asynccontextmanager\n    async def lifespan(self):\n"
LIFESPAN += "        {}\n" + HOOK

SOURCES: list[tuple[str, dict[str, Any], str]] = [
    ("class Bad:\n    async def service_configuration(self): pass", {}, "is never called"),
    ("class Bad(Plugin):\n    def media_loction(self): 1", {}, "did you mean 'media_location'?"),
    ("class Bad(Plugin): pass", {}, "implements no hook"),
    ("def service_configuration(request): pass", {}, "must define one class with hooks"),
    ("class Bad: pass", {}, "must define one class with hooks"),
    (
        "class Bad:\n    def __init__(self, settings): raise BrokenError\n" + HOOK,
        {},
        "cannot be built: BrokenError (bad.py:",
    ),
    (ROUTES.format("self"), {}, "its route GET /a: too many positional"),
    (ROUTES.format("self").replace("self.page", "print"), {}, "write an async def, without ()"),
    (
        "class Bad:\n    def __init__(self, settings): raise SettingsError('wrong', key='url')\n"
        + HOOK,
        {},
        "settings.url: wrong",
    ),
    (ROUTES.format("self, a, more"), {}, "missing a required argument: 'more'"),
    (SETTINGS.format(VALIDATED), {"room": "x"}, "cannot be read: KeyError: 'x' (bad.py:"),
    (SETTINGS.format("room: 'Later'"), {"room": "x"}, "cannot be read: PydanticUserError"),
    ("class Bad:\n" + HOOK, {"room": "x"}, "unknown key: the class Bad has no Settings"),
    (SETTINGS.format("every: timedelta"), {"every": 60}, 'write text, as in "PT90S"'),
    (SETTINGS.format("every: timedelta"), {"every": "1 minute"}, 'write text, as in "PT90S"'),
    (SETTINGS.format("pool: Source[object]"), {"pool": {"driver": "sql"}}, "the NAME of a table"),
    *(
        (TWICE.format(make), {}, "have the name 'same': give each its own name=")
        for make in ("schedule", "Refreshed")
    ),
    *(
        (
            LIFESPAN.format(f"{make}(work, every=60)\n        yield"),
            {},
            "in lifespan runs nothing: write it in __init__, or",
        )
        for make in ("schedule", "Refreshed")
    ),
    (LIFESPAN.format("pass"), {}, "with one yield"),
]
"""A file of a plugin, its settings, and what is said about it."""


@pytest.mark.parametrize(("source", "settings", "said"), SOURCES)
def test_a_class_with_a_mistake_is_refused(
    tmp_path: Path, source: str, settings: dict[str, Any], said: str
) -> None:
    (tmp_path / "bad.py").write_text(IMPORTS + source)
    with pytest.raises((PluginBuildError, PluginStartupError, ConfigError)) as raised:
        decide_sync((discovery.load(tmp_path / "bad.py"), settings), REQUEST)
    assert said in str(raised.value)


def test_keys_and_defaults_are_read_as_their_types(tmp_path: Path) -> None:
    types = {"f": ConfigPath, "s": Secret, "n": dict[int, str], "all": list[Secret]}
    body = {"__annotations__": types, "f": "a.csv", "s": "x", "all": []}
    model: Any = type("S", (PluginSettings,), body)
    found = read_settings(model, {"n": {"7": "a"}}, {"root": tmp_path})
    assert (found.f, found.s, found.n) == (tmp_path / "a.csv", SecretStr("x"), {7: "a"})
    assert model(n={}, all=["x"]).all == [SecretStr("x")]


def test_work_of_a_module_is_refused_each_time(tmp_path: Path) -> None:
    source = IMPORTS + "schedule(work, every=60)\nclass Bad:\n" + HOOK
    (tmp_path / "bad.py").write_text(source)
    (tmp_path / "config.toml").write_text('plugin_dirs = ["."]\n[plugins.bad]\n')
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"schedule\(...\) outside of a class runs nothing"):
            make_policy(tmp_path / "config.toml")


# ---- what is called wrongly


async def work() -> None:
    """Do nothing."""


class Wrong:
    """Methods that cannot be awaited without arguments."""

    def plain(self) -> None: ...

    async def yielding(self) -> AsyncIterator[int]:
        yield 1


def settings_with(annotation: Any) -> type:
    return type("S", (PluginSettings,), {"__annotations__": {"look": annotation}})


MAKERS: tuple[Any, ...] = (schedule, Refreshed)
UNTYPED: Any = metrics
CALLS: list[tuple[Callable[[], object], type[Exception], str]] = [
    *(
        (partial(settings_with, annotation), TypeError, r"write FieldsOf\[Conference\]")
        for annotation in (FieldsOf, FieldsOf[Conference | Continue])
    ),
    (
        lambda: read_secret("token", None, None, Path()),
        SecretError,
        "write token_env .* or token_file",
    ),
    *(
        (partial(make, function, every=every), TypeError, said)
        for make in MAKERS
        for function, every, said in (
            ("work", 60, "takes a coroutine function"),
            (work, timedelta(seconds=60), "every is a number of seconds"),
        )
    ),
    *((lambda make=make: make(work(), every=60), TypeError, "without ()") for make in MAKERS),
    (partial(MAKERS[0], work, every=60, once_per="process"), ValueError, "'worker', 'fleet'"),
    (partial(MAKERS[1], work, every=60, first="lazy"), ValueError, "'stale' or 'later'"),
    (partial(MAKERS[1], work, every=60, key="k", file=Path()), TypeError, "file is a CacheFile"),
    (partial(UNTYPED.counter, "calls", "Calls.", "room"), ValueError, r"write \['room'\]"),
    (partial(UNTYPED.gauge, "a", "A.", combine="avg"), ValueError, "combine is 'sum', 'max' or 'm"),
    (partial(UNTYPED.counter, "calls", ["room"]), ValueError, "help is a text, and labels follow"),
]
"""A call, and how it is refused."""


@pytest.mark.parametrize(("call", "error", "said"), CALLS)
def test_a_wrong_call_is_refused_at_once(
    call: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize("make", MAKERS)
def test_what_returns_an_awaitable_is_accepted(make: Any, tmp_path: Path) -> None:
    def told() -> Awaitable[None]:
        return work()

    @wraps(work)
    def wrapped(*arguments: object) -> Any:
        return work()

    class Callable:
        def __call__(self) -> Awaitable[None]:
            return work()

    for function in (told, wrapped, Callable(), partial(work), lambda: work(), AsyncMock()):  # noqa: PLW0108 - an author writes it
        make(function, every=60)
    Refreshed(work, every=60, key="k", file=CacheFile(tmp_path / "x", str))  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [lambda: 1, Wrong().plain, Wrong().yielding])
async def test_a_plain_function_is_a_failure_at_its_first_run(function: Any) -> None:
    with pytest.raises(TypeError, match="await"):
        await Refreshed(function, every=60).refresh()


# ---- wrong answers


def detail_of(answer: object, endpoint: str) -> str:
    """Return the detail of the step of a plugin with this answer."""

    async def hook(self: object, request: object) -> object:
        return answer(request) if callable(answer) else answer

    plugin = type("Bad", (), {endpoint: hookimpl(hook)})
    return decide_sync(plugin, make_request(endpoint)).steps[0].detail


ANSWERS: list[tuple[Any, str, str]] = [
    *(
        (answer, "service_configuration", said)
        for answer, said in (
            *(
                (lambda _, make=make: make(work, every=60), "runs nothing: write it in __init__")
                for make in MAKERS
            ),
            (lambda _: next(iter(())), "(test_author_mistakes.py:"),
            (lambda _: Conference(name="x" * 10_000_000, service_tag="x"), "250 characters"),
            (lambda request: request.local_alais, "did you mean 'local_alias'?"),
            (lambda request: request.get("x"), "in request.params"),
            (lambda _: AsyncMock(spec=Coroutine), " without await is not a decision of service_"),
            (lambda request: request.annotate("ticket"), "write annotate(ticket=4711)"),
            (lambda request: request.annotate("ticket", 4711), "write annotate(ticket=4711)"),
            (
                lambda _: ROOM.replace(action="reject"),
                "a decision keeps its action: return Reject()",
            ),
        )
    ),
    ("a", "directory_information", "None, a list of DirectoryEntry, "),
    (lambda _: Conference, "service_configuration", "the class Conference is not a decision"),
    ("a", "participant_avatar", "expected None, the bytes of a picture, or"),
]
"""What a hook returns or does, its endpoint, and what the step says."""


@pytest.mark.parametrize(("answer", "endpoint", "said"), ANSWERS)
def test_a_wrong_answer_is_explained(answer: Any, endpoint: str, said: str) -> None:
    assert said in detail_of(answer, endpoint)


# ---- lifespans


@pytest.mark.parametrize("make", MAKERS)
def test_a_lifespan_may_open_work_itself(make: Any) -> None:
    class Good:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            async with make(work, every=60):
                yield

        @hookimpl(optionalhook=True)
        async def of_a_later_version(self) -> None: ...

        @hookimpl
        async def service_configuration(self) -> Conference:
            return ROOM

    assert decide_sync(Good, REQUEST).decision == ROOM


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("yield", "generator didn't stop"),
        ("await asyncio.sleep(3600)", "TimeoutError: not closed after 0.01 s"),
    ],
)
def test_a_lifespan_that_does_not_end_is_logged(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    after: str,
    said: str,
) -> None:
    monkeypatch.setattr("pexpolicy.background.lifespan.STOP_TIMEOUT_S", 0.01)
    source = LIFESPAN.format(f"yield\n        {after}")
    (tmp_path / "bad.py").write_text(f"import asyncio\n{IMPORTS}{source}")
    decide_sync(discovery.load(tmp_path / "bad.py"), REQUEST)
    assert said in caplog.text


# ---- settings, metrics, logs


def test_the_default_of_a_path_is_relative_to_the_configuration() -> None:
    class S(PluginSettings):
        file: ConfigPath = Path("cache.json")
        spool: ConfigPath | None = Path("/var/spool")
        plain: Path = Path("plain")

    settings = read_settings(S, {}, {"root": Path("/etc")})
    assert settings.file == Path("/etc/cache.json")
    assert settings.spool == Path("/var/spool")
    assert settings.plain == Path("plain")
    given = read_settings(S, {"file": "cache.json"}, {"root": Path("/etc")})
    assert given.file == settings.file
    assert S().file == Path("cache.json")


def test_a_test_may_pass_objects() -> None:
    class S(PluginSettings):
        rooms: AliasMap[str]
        look: FieldsOf[Conference]
        closed: AliasSet

    rooms, look, closed = AliasMap({"a@b.c": "x"}), FieldsOf(Conference), AliasSet(["d@b.c"])
    settings = S(rooms=rooms, look=look, closed=closed)
    assert (settings.rooms, settings.look, settings.closed) == (rooms, look, closed)


@pytest.mark.parametrize("given", [("found", ROOM.action), ("100% of %s", "x"), ("%d", "x")])
def test_a_wrong_log_line_fails_no_hook(
    given: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    get_logger("acme").warning(*given)
    assert caplog.messages == [f"{given[0]} arguments={given[1]!r}"] or (
        caplog.messages == [f'{given[0]} arguments="{given[1]!r}"']
    )
