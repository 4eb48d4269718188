"""A plugin in workers of its own answers exactly as it does inside the server."""

import asyncio
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Conference, ConfigWarning, DecisionError, Gateway, Reject
from pexpolicy.config.problems import PluginBuildError
from pexpolicy.config.schema.plugins import InfinityTable
from pexpolicy.errors import describe_decision_error, describe_error
from pexpolicy.isolation.child import ChildError
from pexpolicy.isolation.isolated_plugin import IsolatedPlugin, build_isolated
from pexpolicy.models.outcome import Outcome, Step
from pexpolicy.plugins.binding import bind_hook, describe
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.plugin import build
from tests.support.isolated import PluginFolder, admitted, request, service, table_of

pytestmark = pytest.mark.slow

CASES = {
    "service_configuration": {
        "conference": "Conference(name='Room', service_tag='t', pin='1234', reason='mine')",
        "lecture": "Lecture(name='L', service_tag='')",
        "gateway": "Gateway(name='G', service_tag='', local_alias='a', remote_alias='b@c')",
        "reception": "VirtualReception(name='V', service_tag='')",
        "playback": "MediaPlayback(name='P', service_tag='', media_playlist_name='x')",
        "test call": "TestCall(name='T', service_tag='')",
        "dictionary": "{'service_type': 'conference', 'name': 'D', 'service_tag': '', 'new': 1}",
        "redirect": "Redirect(new_alias='sip:a@b', reason='moved')",
        "reject": "Reject(reason='no')",
        "continue": "Continue(reason='not ours')",
        "long reason": "Continue(reason='x' * 1000)",
        "none": "None",
        "a number": "7",
        "a generator": "(x for x in 'ab')",
        "an exception": "ValueError('x')",
        "wrong pin": "Conference(name='Room', service_tag='', pin='abc')",
        "ten megabytes": "'x' * 10_000_000",
        "another endpoint's": "Avatar(b'x')",
        "raising": "1 / 0",
        "key error": "{}['pin']",
        "exit": "sys.exit(3)",
        "interrupt": "(_ for _ in ()).throw(KeyboardInterrupt)",
        "recursion": "(f := lambda: f())()",
        "stop": "next(iter(()))",
        "cancelled": "(_ for _ in ()).throw(asyncio.CancelledError)",
    },
    "participant_properties": {
        "nested": "ParticipantProperties(send_to_audio_mixes=[AudioMix(mix_name='a.b')])",
        "warned": "ParticipantProperties(private_custom_properties={'a': [1, None, 'ø']})",
        "nulls": "ParticipantProperties(preauthenticated_role=None)",
        "reject": "Reject(reject_reason='full', reason='r')",
        "dictionary": "{'layout_group': 'g'}",
    },
    "media_location": {
        "location": "MediaLocation(location='Oslo', overflow_locations=['Bergen'])",
        "continue": "Continue()",
        "reject": "Reject()",
    },
    "participant_avatar": {
        "picture": "Avatar(picture(), reason='face')",
        "bytes": "picture()",
        "no picture": "b'no picture'",
        "empty": "b''",
        "continue": "Continue()",
    },
    "directory_information": {
        "directory": "Directory(entries=[DirectoryEntry(alias='a', description='b')])",
        "nothing": "Directory(entries=[], ignore_local=True)",
        "list": "[DirectoryEntry(alias=a, description=a) for a in 'abcdef']",
        "continue": "Continue()",
    },
    "registration_alias": {
        "credentials": "Credentials(username='u', password='p')",
        "open": "Credentials.without_authentication(reason='lab')",
        "empty": "Credentials(username='', password='')",
        "reject": "Reject(reason='no')",
    },
}
ALL = [(hook, case) for hook, cases in CASES.items() for case in cases]
PICTURE = """
import io
from PIL import Image

def picture():
    out = io.BytesIO()
    Image.new("P", (40, 30)).save(out, "GIF")
    return out.getvalue()
"""


def everything(kind: str) -> str:
    """A plugin that answers each case, with hooks that are ``def`` or ``async def``."""
    lines = [PICTURE, f"CASES = {CASES!r}", "class Toy:", "    def __init__(self, settings): pass"]
    for hook in CASES:
        lines += ["    @hookimpl", f"    {kind} {hook}(self, request):"]
        lines += [f"        return eval([*CASES[{hook!r}].values()][int(request.params['case'])])"]
    return "\n".join(lines)


async def said(endpoint: str, ask: Any, case: str) -> object:
    # A longer value of a parameter that is not declared is kept out of reports.
    number = str([*CASES[endpoint]].index(case))
    asked = request(endpoint, "Alice@Example.com", case=number, width="20", height="10", limit="4")
    try:
        decision = await admitted(endpoint, ask, asked)
    except DecisionError as error:
        ours = str(Path(__file__).parents[1])
        return (
            "invalid",
            str(error),
            [x for x in describe_decision_error(error).lines if not x.startswith(ours)],
        )
    except ChildError as error:
        return "failed", where_it_was(error.fault.summary)
    except BaseException as error:  # noqa: BLE001 - each of them must come out alike
        return "failed", where_it_was(describe_error(without_tests(error)).summary)
    if decision is None:
        return None
    picture = getattr(decision, "image", None) if endpoint == "participant_avatar" else None
    return type(decision), decision.result, decision.reason, decision.warnings, picture


def without_tests(error: BaseException) -> BaseException:
    """The same without the frames of the tests, which a server does not have."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename.startswith(str(Path(__file__).parents[1])):
        trace = trace.tb_next
    return error.with_traceback(trace)


def where_it_was(summary: str) -> str:
    """Without the line where the interpreter itself complains of who awaited."""
    return summary.partition(" (")[0] if "StopIteration" in summary else summary


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_each_answer_is_the_one_that_the_plugin_gives_in_the_server(
    shelf: PluginFolder, kind: str
) -> None:
    available = shelf.write(everything(kind))
    plugins, problems = build({"toy": table_of()}, {"toy": available}, shelf.folder)
    assert problems == []
    async with (isolated := shelf.start(available)).lifespan():
        for hook, case in ALL:
            here = bind_hook(plugins[0], hook)
            assert here is not None
            expected = await said(hook, here.ask, case)
            assert await said(hook, isolated.hooks[hook], case) == expected, (hook, case)
    plugins[0].close()


async def test_a_request_arrives_as_it_came(shelf: PluginFolder) -> None:
    source = """
    @hookimpl
    async def registration_alias(self, request):
        import json
        told = [list(request.params.items()), request.alias, request.alias.raw, request.protocol]
        return Reject(reason=json.dumps(told))
    """
    pairs = (("b", "1"), ("a", ""), ("b", "ø"), ("protocol", "SIP"))
    async with shelf.serving(source) as isolated:
        asked = request("registration_alias", "sip:Bob@Example.com;transport=tls", *pairs)
        decision = await isolated.hooks["registration_alias"](asked)
    params, alias, raw, protocol = json.loads(decision.reason)
    assert tuple(map(tuple, params)) == pairs
    assert (alias, raw, protocol) == ("bob@example.com", "sip:Bob@Example.com;transport=tls", "sip")


BROKEN = {
    "import": "1 / 0",
    "missing module": "import no_such_module_here",
    "exit at import": "sys.exit(4)",
    "no class": "Toy = 7",
    "no hook": "class Toy:\n    def __init__(self, settings): pass",
    "constructor": "class Toy:\n    def __init__(self, settings): raise OSError('no disk')",
    "settings": """
        class Toy:
            class Settings(PluginSettings):
                rooms: dict[str, int]
                when: str = ""
            def __init__(self, settings): pass
    """,
    "settings error": """
        class Toy:
            class Settings(PluginSettings):
                model_config = {"extra": "allow"}
            def __init__(self, settings):
                raise SettingsError("no such room", "and no other", key=("rooms", "x y", 3))
    """,
    "check": """
        class Toy:
            class Settings(PluginSettings):
                model_config = {"extra": "allow"}
            def __init__(self, settings): pass
            @hookimpl
            def config_warnings(self): raise KeyError("check")
    """,
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_built_is_said_as_it_is_said_in_the_server(
    shelf: PluginFolder, case: str
) -> None:
    available = shelf.write(BROKEN[case])
    settings = {"rooms": {"x y": "text"}, "roms": 1}
    plugins, problems = build(
        {"toy": table_of(settings=settings)}, {"toy": available}, shelf.folder
    )
    problems += describe(plugins, shelf.folder)[1]
    with pytest.raises(PluginBuildError) as raised:
        shelf.start(available, settings=settings)
    assert [(("plugins", "toy", *p.key), p.text) for p in raised.value.problems] == [
        (p.key, p.text) for p in problems
    ]
    assert problems


def test_config_warnings_of_a_worker_are_reported(shelf: PluginFolder) -> None:
    source = """
    @hookimpl
    def config_warnings(self):
        yield ConfigWarning(("rooms", "a b", 2), "nobody calls it")
        yield ConfigWarning((), "old")
    @hookimpl
    def registration_alias(self): return None
    """
    built = build_isolated(shelf.hooks(source), table_of(processes=1), shelf.folder)
    assert built.hooks["config_warnings"]() == [
        ConfigWarning(("rooms", "a b", 2), "nobody calls it"),
        ConfigWarning((), "old"),
    ]
    assert built.can_reject


def test_a_plugin_that_exists_in_this_program_only_is_refused(shelf: PluginFolder) -> None:
    available = PluginSource("toy", "toy-dist", "1.2", "toys:toy", lambda: Reject)
    with pytest.raises(
        PluginBuildError, match=r"toy \(toy-dist 1.2\) cannot be sent to a worker process"
    ):
        shelf.start(available)


async def test_dates_and_times_and_long_tables_arrive_in_the_settings(shelf: PluginFolder) -> None:
    source = """
    import datetime
    class Toy:
        class Settings(PluginSettings):
            day: datetime.date
            at: datetime.datetime
            rooms: dict[str, str]
        def __init__(self, settings): self.settings = settings
        @hookimpl
        async def service_configuration(self):
            of = self.settings
            return Continue(reason=f"{of.day!r} {of.at.isoformat()} {len(of.rooms)}")
    """
    settings: dict[str, Any] = {
        "day": dt.date(2030, 1, 2),
        "at": dt.datetime(2030, 1, 2, 3, 4, tzinfo=dt.UTC),
        "rooms": {f"room{number}": "x" * 400 for number in range(50_000)},
    }
    async with (isolated := shelf.start(shelf.write(source), settings=settings)).lifespan():
        expected = f"{settings['day']!r} {settings['at'].isoformat()} 50000"
        assert (await service(isolated)).reason == expected


async def test_an_observer_gets_the_outcome(shelf: PluginFolder) -> None:
    source = """
    @hookimpl
    def on_decision(self, outcome):
        with open("{path}", "a") as file:
            print(outcome.decision_id, outcome.endpoint, outcome.request.local_alias,
                  outcome.decision, outcome.decision.reason, outcome.decided_by, outcome.steps,
                  getattr(outcome.decision, "outgoing_protocol", ""), file=file)
    """.replace("{path}", str(shelf.folder / "told"))
    asked = request("service_configuration", local_alias="a@b")
    steps = [Step("rooms", "decided", 0.5)]
    # Infinity knows a protocol that this version does not, and the configuration lists it.
    infinity = InfinityTable(extra_values={"outgoing_protocol": ["zoom"]})
    fields = {"name": "gw", "service_tag": "", "local_alias": "a", "remote_alias": "b"}
    gateway = Gateway.from_result({**fields, "outgoing_protocol": "zoom"}, extras=infinity.extras)
    room = Conference(name="Room", service_tag="", reason="mine")
    table = table_of(processes=1).with_context("info", extras=infinity.extras)
    isolated = IsolatedPlugin(shelf.hooks(source), table, shelf.folder)
    async with isolated.lifespan():
        for decision in (room, gateway):
            outcome = Outcome("id-1", "service_configuration", asked, decision, "rooms", steps)
            await isolated.hooks["on_decision"](outcome)
    first, second = (shelf.folder / "told").read_text().splitlines()
    assert first.strip() == f"id-1 service_configuration a@b {room} mine rooms {steps}"
    assert second.endswith(" zoom")


PLACE = """
@hookimpl
def service_configuration(self):
    told = asyncio.run(asyncio.sleep(0, result=os.environ.get("PYTHONPATH")))
    return Continue(reason=f"{told}|{os.getcwd()}")
"""


@pytest.mark.parametrize("path", [None, "/nowhere"])
async def test_a_plain_hook_may_run_a_loop_and_finds_the_surroundings_of_the_server(
    shelf: PluginFolder, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    async with shelf.serving(PLACE) as isolated:
        assert (await service(isolated)).reason == f"{path}|{Path.cwd()}"


async def test_what_a_call_binds_and_cancels_ends_with_the_call(shelf: PluginFolder) -> None:
    source = """
    from contextvars import ContextVar
    CALLER = ContextVar("CALLER", default="nobody")
    class Toy:
        def __init__(self, settings): pass
        @hookimpl
        async def service_configuration(self, request):
            found = CALLER.get()
            CALLER.set("alice")
            asyncio.current_task().cancel()
            return Continue(reason=found)
    """
    async with (isolated := shelf.start(shelf.write(source))).lifespan():
        reasons = [(await service(isolated)).reason for _ in range(3)]
    assert reasons == ["nobody"] * 3


def test_it_works_on_uvloop(shelf: PluginFolder) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def calls(isolated: IsolatedPlugin) -> None:
        async with isolated.lifespan():
            assert (await service(isolated)).name == "Room"
            with pytest.raises(ChildError, match="exit code 3"):
                await service(isolated, "exit")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await service(isolated, "hang")
            assert (await service(isolated)).name == "Room"

    source = """
    @hookimpl
    def service_configuration(self, request):
        if request.params["do"] == "exit":
            os._exit(3)
        while request.params["do"] == "hang":
            pass
        return Conference(name="Room", service_tag="")
    """
    isolated = shelf.start(shelf.hooks(source))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(calls(isolated))


READS_ENVIRONMENT = """
class Settings(PluginSettings):
    token_env: str = ""
    nested: list[dict[str, str]] = []

class Toy:
    Settings = Settings
    def __init__(self, settings): pass
    @hookimpl
    async def service_configuration(self, request):
        return Continue(reason=" ".join(sorted(n for n in os.environ if n.startswith("X_"))))
"""


@pytest.mark.parametrize(
    ("env", "seen"),
    [
        ([], "X_INNER X_NAMED"),
        (["X_LISTED", "X_ABSENT"], "X_INNER X_LISTED X_NAMED"),
        (["*"], "X_INNER X_LISTED X_NAMED X_SECRET"),
    ],
)
async def test_a_worker_gets_the_variables_that_it_is_given(
    shelf: PluginFolder, monkeypatch: pytest.MonkeyPatch, env: list[str], seen: str
) -> None:
    for name in ("X_INNER", "X_LISTED", "X_NAMED", "X_SECRET"):
        monkeypatch.setenv(name, "value")
    settings = {"token_env": "X_NAMED", "nested": [{"key_env": "X_INNER"}]}
    isolated = shelf.start(shelf.write(READS_ENVIRONMENT), env=env, settings=settings)
    async with isolated.lifespan():
        assert (await service(isolated)).reason == seen


@pytest.mark.parametrize("name", ["A-B", "A B", "", "*A", "1A"])
def test_a_variable_that_cannot_be_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="env"):
        table_of(env=[name])
