"""Mistakes of plugin authors: what they are told, at check wherever possible."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import web

from pexpolicy import (
    AliasMap,
    AliasSet,
    Conference,
    ConfigPath,
    Continue,
    Plugin,
    PluginSettings,
    Refreshed,
    Reject,
    Source,
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
from pexpolicy.files import CacheFile, named_changes
from pexpolicy.models.decision import Decision
from pexpolicy.plugins import drop_in
from pexpolicy.testing import PluginStartupError, decide_sync, make_policy, make_request

REQUEST = make_request("service_configuration")
ROOM = Conference(name="Room", service_tag="room")


async def work() -> None:
    """Do nothing."""


def problem_of(plugin: object, settings: dict[str, Any] | None = None) -> str:
    """Return why a policy of a class cannot be built."""
    subject = plugin if settings is None else (plugin, settings)
    with pytest.raises(ConfigError) as raised:
        make_policy(subject)
    return str(raised.value)


def detail_of(answer: object, endpoint: str = "service_configuration") -> str:
    """Return the detail of the step of a plugin with this answer."""

    async def hook(_: object) -> object:
        return answer(_) if callable(answer) else answer

    plugin = type("Bad", (), {endpoint: hookimpl(_named(hook))})
    return decide_sync(plugin, make_request(endpoint)).steps[0].detail


def _named(hook: Any) -> Any:
    async def call(self: object, request: object) -> object:
        return await hook(request)

    return call


class Partly:
    """Adjusts by a dictionary of the fields that change."""

    @hookimpl
    async def service_configuration(self) -> Conference:
        return ROOM

    @hookimpl
    async def adjust_service_configuration(self) -> dict[str, str]:
        return {"ivr_theme_name": "Blue"}


class TestHooks:
    def test_an_optional_hook_may_be_of_a_later_version(self) -> None:
        class Good:
            @hookimpl(optionalhook=True)
            async def brand_new(self) -> None: ...

            @hookimpl
            async def service_configuration(self) -> Conference:
                return ROOM

        assert decide_sync(Good, REQUEST).decision == ROOM

    def test_a_constructor_whose_error_has_no_text(self) -> None:
        class BrokenError(Exception):
            def __str__(self) -> str:
                raise self

        class Bad:
            def __init__(self, settings: object) -> None:
                raise BrokenError

            @hookimpl
            async def service_configuration(self) -> None: ...

        assert "cannot be built: BrokenError (test_author_mistakes.py:" in problem_of(Bad)


class TestRoutes:
    @pytest.mark.parametrize(
        ("handler", "problem"),
        [("none", "too many positional"), ("two", "missing a required argument: 'more'")],
    )
    def test_a_handler_that_cannot_take_the_request(self, handler: str, problem: str) -> None:
        class Bad:
            async def none(self) -> web.Response:
                return web.Response()

            async def two(self, request: web.Request, more: int) -> web.Response:
                return web.Response()

            @hookimpl
            def routes(self) -> Iterable[web.RouteDef]:
                return [web.get("/a", getattr(self, handler))]

        assert f"its handler is called with the request: {problem}" in problem_of(Bad)


class TestDropIn:
    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("class Bad:\n    async def service_configuration(self): pass", "is never called"),
            (
                "import pexpolicy\nclass Bad(pexpolicy.Plugin):\n    def media_loction(self): 1",
                "did you mean 'media_location'?",
            ),
            ("from pexpolicy import Plugin\nclass Bad(Plugin): pass", "implements no hook"),
            ("def service_configuration(request): pass", "must define one class with hooks"),
            ("class Bad: pass", "must define one class with hooks"),
        ],
    )
    def test_a_class_without_hooks(self, tmp_path: Path, source: str, said: str) -> None:
        (tmp_path / "bad.py").write_text(source)
        with pytest.raises((PluginBuildError, ConfigError)) as raised:
            make_policy(drop_in.load(tmp_path / "bad.py"))
        assert said in str(raised.value)


class TestSettings:
    def test_a_validator_that_fails_is_a_problem_of_the_plugin(self) -> None:
        from pydantic import field_validator  # noqa: PLC0415 - as in a plugin

        class Bad:
            class Settings(PluginSettings):
                room: str

                @field_validator("room")
                @classmethod
                def known(cls, value: str) -> str:
                    return {"a": "b"}[value]

            def __init__(self, settings: Settings) -> None: ...

            @hookimpl
            async def service_configuration(self) -> None: ...

        text = problem_of(Bad, {"room": "x"})
        assert "its Settings cannot be read: KeyError: 'x' (test_author_mistakes.py:" in text

    def test_a_type_that_is_not_defined(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text(
            "from pexpolicy import Plugin, PluginSettings\n"
            "class S(PluginSettings):\n    room: 'Later'\n"
            "class Bad(Plugin[S]):\n    async def service_configuration(self, request): pass\n"
        )
        text = problem_of(drop_in.load(tmp_path / "bad.py"), {"room": "x"})
        assert "its Settings cannot be read: PydanticUserError" in text

    def test_a_class_without_settings_says_so(self) -> None:
        class Bad:
            @hookimpl
            async def service_configuration(self) -> None: ...

        assert "unknown key: the class Bad has no Settings" in problem_of(Bad, {"room": "x"})

    def test_a_duration_is_text(self) -> None:
        class S(PluginSettings):
            every: timedelta

        class Bad(Plugin[S]):
            async def service_configuration(self, request: object) -> None: ...

        assert 'write text, as in "PT90S"' in problem_of(Bad, {"every": 60})
        assert 'write text, as in "PT90S"' in problem_of(Bad, {"every": "1 minute"})

    def test_the_default_of_a_path_is_relative_to_the_configuration(self) -> None:
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

    def test_a_test_may_pass_objects(self) -> None:
        class S(PluginSettings):
            rooms: AliasMap[str]
            look: FieldsOf[Conference]
            closed: AliasSet

        rooms, look, closed = AliasMap({"a@b.c": "x"}), FieldsOf(Conference), AliasSet(["d@b.c"])
        settings = S(rooms=rooms, look=look, closed=closed)
        assert (settings.rooms, settings.look, settings.closed) == (rooms, look, closed)

    @pytest.mark.parametrize("annotation", [FieldsOf, FieldsOf[Conference | Continue]])
    def test_fields_are_those_of_one_class(self, annotation: Any) -> None:
        with pytest.raises(TypeError, match=r"write FieldsOf\[Conference\]"):
            type("S", (PluginSettings,), {"__annotations__": {"look": annotation}})

    def test_a_secret_that_is_named_nowhere(self) -> None:
        with pytest.raises(SecretError, match="write token_env or token_file"):
            read_secret("token", None, None, Path())

    def test_a_table_is_no_driver(self) -> None:
        class S(PluginSettings):
            pool: Source[object]

        class Bad(Plugin[S]):
            async def service_configuration(self, request: object) -> None: ...

        assert "write the NAME of a table" in problem_of(Bad, {"pool": {"driver": "sql"}})


def with_lifespan(body: Any) -> type:
    """Return a plugin that does this in its lifespan."""

    class Bad:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            async with body():
                yield

        @hookimpl
        async def service_configuration(self) -> Conference:
            return ROOM

    return Bad


class TestBackground:
    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_work_of_a_lifespan_that_nothing_opens_is_refused(self, make: Any) -> None:
        @asynccontextmanager
        async def body() -> AsyncIterator[None]:
            make(work, every=60)
            yield

        with pytest.raises(
            ConfigError, match=r"in lifespan runs nothing: write it in __init__, or"
        ):
            decide_sync(with_lifespan(body), REQUEST)

    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_a_lifespan_may_open_it_itself(self, make: Any) -> None:
        @asynccontextmanager
        async def body() -> AsyncIterator[None]:
            async with make(work, every=60):
                yield

        assert decide_sync(with_lifespan(body), REQUEST).decision == ROOM

    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_in_a_hook_it_is_refused(self, make: Any) -> None:
        detail = detail_of(lambda _: make(work, every=60))
        assert "in service_configuration runs nothing: write it in __init__" in detail

    def test_in_a_module_it_is_refused_each_time(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text(
            "from pexpolicy import hookimpl, schedule\n"
            "async def work(): pass\n"
            "schedule(work, every=60)\n"
            "class Bad:\n    @hookimpl\n    async def service_configuration(self): pass\n"
        )
        config = tmp_path / "config.toml"
        config.write_text('plugin_dirs = ["."]\n[plugins.bad]\n')
        for _ in range(2):
            assert "schedule(...) outside of a class runs nothing" in problem_of(config)

    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_two_of_one_name_are_refused(self, make: Any) -> None:
        class Bad:
            def __init__(self, settings: object) -> None:
                for _ in range(2):
                    make(work, every=60, name="same")

            @hookimpl
            async def service_configuration(self) -> None: ...

        assert "have the name 'same': give each its own name=" in problem_of(Bad)

    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_wrong_arguments(self, make: Any, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="write work, without"):
            make(work(), every=60)
        with pytest.raises(TypeError, match="takes a coroutine function"):
            make("work", every=60)
        with pytest.raises(TypeError, match="every is a number of seconds"):
            make(work, every=timedelta(seconds=60))

    def test_data_is_not_its_value(self) -> None:
        with pytest.raises(AttributeError, match=r"no attribute 'get': its data is in \.value"):
            Refreshed(work, every=60).get("x")  # type: ignore[attr-defined]

    def test_words(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="once_per is 'server' or 'worker'"):
            schedule(work, every=60, once_per="process")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="first is 'required' or 'stale'"):
            Refreshed(work, every=60, first="lazy")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="file is a CacheFile"):
            Refreshed(work, every=60, key="k", file=tmp_path)  # type: ignore[arg-type]
        Refreshed(work, every=60, key="k", file=CacheFile(tmp_path / "x", str))  # type: ignore[arg-type]

    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_a_function_that_cannot_be_awaited_is_refused_at_once(self, make: Any) -> None:
        class Bad:
            def plain(self) -> None: ...

            async def taking(self, request: object) -> None: ...

            async def yielding(self) -> AsyncIterator[int]:
                yield 1

        bad = Bad()
        with pytest.raises(TypeError, match="plain is not asynchronous: write async def"):
            make(bad.plain, every=60)
        with pytest.raises(TypeError, match="plain is not asynchronous: write async def"):
            make(partial(bad.plain), every=60)
        with pytest.raises(TypeError, match="and yielding yields: write return"):
            make(bad.yielding, every=60)
        with pytest.raises(TypeError, match=r"calls taking without arguments: .*'request'"):
            make(bad.taking, every=60)
        with pytest.raises(TypeError, match=r"calls taking without arguments: .*'self'"):
            make(Bad.taking, every=60)

    @pytest.mark.parametrize("make", [schedule, Refreshed])
    def test_what_returns_an_awaitable_is_accepted(self, make: Any) -> None:
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

    async def test_a_lambda_is_named_at_its_first_run(self) -> None:
        with pytest.raises(TypeError, match="is not asynchronous: write async def"):
            await Refreshed(lambda: 1, every=60).refresh()  # type: ignore[arg-type, return-value]


class TestLifespan:
    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("return\n        yield", "it ended before its yield"),
            ("pass", "with one yield"),
        ],
    )
    def test_one_that_does_not_yield(self, tmp_path: Path, source: str, said: str) -> None:
        (tmp_path / "bad.py").write_text(
            "from contextlib import asynccontextmanager\nfrom pexpolicy import hookimpl\n"
            "class Bad:\n    @hookimpl\n    @asynccontextmanager\n"
            f"    async def lifespan(self):\n        {source}\n"
            "    @hookimpl\n    async def service_configuration(self): pass\n"
        )
        with pytest.raises((PluginStartupError, ConfigError), match=said):
            decide_sync(drop_in.load(tmp_path / "bad.py"), REQUEST)

    def test_one_that_yields_twice(self, caplog: pytest.LogCaptureFixture) -> None:
        class Bad:
            @hookimpl
            @asynccontextmanager
            async def lifespan(self) -> AsyncIterator[None]:
                yield
                yield

            @hookimpl
            async def service_configuration(self) -> None: ...

        decide_sync(Bad, REQUEST)
        assert "it yields twice; a lifespan yields once" in caplog.text

    def test_one_that_does_not_close(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pexpolicy.background.lifespan.STOP_TIMEOUT_S", 0.01)

        class Bad:
            @hookimpl
            @asynccontextmanager
            async def lifespan(self) -> AsyncIterator[None]:
                yield
                await asyncio.sleep(3600)

            @hookimpl
            async def service_configuration(self) -> None: ...

        decide_sync(Bad, REQUEST)
        assert "TimeoutError: not closed after 0.01 s" in caplog.text
        assert "test_author_mistakes.py:" in caplog.text


class TestAnswers:
    def test_a_future_was_not_awaited(self) -> None:
        detail = detail_of(lambda _: asyncio.get_running_loop().create_future())
        assert "a Future is not a decision: an await is missing" in detail

    def test_a_decorator_that_does_not_await(self) -> None:
        made = [work()]

        class Bad:
            @hookimpl
            def service_configuration(self) -> Awaitable[None]:
                return made[0]

        detail = decide_sync(Bad, REQUEST).steps[0].detail
        made[0].close()
        assert "an await is missing, perhaps in a decorator" in detail

    def test_a_comma_too_many(self) -> None:
        assert "is there a comma too many?" in detail_of((ROOM,))

    def test_a_list_of_entries_is_expected(self) -> None:
        assert "None, a list of DirectoryEntry, " in detail_of("a", "directory_information")

    def test_the_bytes_of_a_picture_are_expected(self) -> None:
        assert "expected None, the bytes of a picture, or" in detail_of("a", "participant_avatar")

    def test_a_picture_is_not_blamed_on_a_library(self) -> None:
        assert ".py" not in detail_of(b"abc", "participant_avatar")

    def test_an_iterator_that_ends_has_a_place(self) -> None:
        detail = detail_of(lambda _: next(iter(())))
        assert "(test_author_mistakes.py:" in detail

    def test_text_that_is_far_too_long_is_refused_at_once(self) -> None:
        detail = detail_of(lambda _: Conference(name="x" * 10_000_000, service_tag="x"))
        assert "must be text of at most 250 characters" in detail

    def test_requests_suggest_attributes(self) -> None:
        assert "did you mean 'local_alias'?" in detail_of(lambda request: request.local_alais)
        assert "write request.params.get" in detail_of(lambda request: request.get("x"))

    def test_annotations_have_names(self) -> None:
        for unnamed in (("ticket",), ("ticket", 4711)):
            detail = detail_of(lambda request, unnamed=unnamed: request.annotate(*unnamed))
            assert "write annotate(ticket=4711)" in detail

    def test_an_adjuster_changes_some_fields_by_replace(self) -> None:
        step = decide_sync(Partly, REQUEST).steps[1]
        assert step.outcome == "invalid"
        assert "to change some of them, return decision.replace(name=value)" in step.detail

    def test_an_action_is_not_replaced(self) -> None:
        detail = detail_of(lambda _: ROOM.replace(action="reject"))
        assert "a decision keeps its action: return Reject()" in detail


class TestMetrics:
    def test_labels_are_a_list(self) -> None:
        with pytest.raises(ValueError, match=r"write \['room'\]"):
            metrics.counter("calls", "Calls.", "room")

    def test_a_word_is_checked(self) -> None:
        with pytest.raises(ValueError, match="combine is 'sum', 'max' or 'min'"):
            metrics.gauge("rooms", "Rooms.", combine="avg")  # type: ignore[arg-type]

    def test_help_is_a_text(self) -> None:
        with pytest.raises(TypeError, match="help is a text, and labels follow it"):
            metrics.counter("calls", ["room"])  # type: ignore[arg-type]

    def test_labels_are_arguments(self) -> None:
        with pytest.raises(AttributeError, match="labels are arguments"):
            metrics.counter("calls", "Calls.", ["room"]).labels("x")  # type: ignore[attr-defined]

    def test_two_of_one_name_are_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        metrics.counter("twice", "Calls.", ["a"]).inc(a="1")
        metrics.counter("twice", "Calls.", ["b"]).inc(b="1")
        assert "twice is made twice, with the labels a and b" in caplog.text


class TestRejects:
    """Whether a plugin is taken for one that can reject."""

    def test_annotations_count(self) -> None:
        class Rooms:
            @hookimpl
            async def service_configuration(self) -> "Conference | Continue | None": ...

        class Guard:
            @hookimpl
            async def service_configuration(self) -> "Conference | Reject | None": ...

        class Unknown:
            @hookimpl
            async def service_configuration(self) -> object: ...

        class Adjuster:
            @hookimpl
            async def adjust_service_configuration(self, decision: Decision) -> Decision | None: ...

        class Picky:
            @hookimpl
            async def adjust_service_configuration(
                self, decision: Conference | Reject
            ) -> Conference | None: ...

        guessed = {
            plugin: make_policy(plugin).plugins[0].can_reject
            for plugin in (Rooms, Guard, Unknown, Adjuster, Picky)
        }
        assert list(guessed.values()) == [False, True, True, True, False]


@pytest.mark.parametrize("given", [("found", ROOM.action), ("100% of %s", "x"), ("%d", "x")])
def test_a_wrong_log_line_fails_no_hook(
    given: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    get_logger("acme").warning(*given)
    assert caplog.messages == [f"{given[0]} arguments={given[1]!r}"] or (
        caplog.messages == [f'{given[0]} arguments="{given[1]!r}"']
    )


def test_changes_of_rooms_by_alias_have_names() -> None:
    before, after = AliasMap({"a@b.c": 1}), AliasMap({"a@b.c": 2, "d@b.c": 1})
    assert list(named_changes(before, after)) == ["added d@b.c", "changed a@b.c"]
