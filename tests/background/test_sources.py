"""Sources: built once for all plugins that name them, kept over a reload, closed after the last."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union

import pytest

from pexpolicy import Conference, PluginSettings, Source, hookimpl, metrics
from pexpolicy.background.sources import SharedResources
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.models.context import hook_context
from pexpolicy.observability.metrics import expose
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.server.generations import Reloader, generation_of
from pexpolicy.testing import decide, make_request
from tests.support import drivers
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import Log, available, open_audit
from tests.support.waiting import until

SERVICE = make_request("service_configuration")
Lines = Callable[[], list[str]]


class Uses:
    """A plugin that answers with what its source is, while that is open."""

    class Settings(PluginSettings):
        people: Source[Any]

    def __init__(self, settings: Settings) -> None:
        self.people = settings.people

    @hookimpl
    async def service_configuration(self, request: object) -> Conference | None:
        return Conference(name=str(self.people), service_tag="") if self.people.opened else None


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    return drivers.installed(tmp_path / "site", monkeypatch)


def policy(
    sources: dict[str, Any],
    uses: dict[str, str] | None = None,
    pool: SharedResources | None = None,
    folder: Path = Path(),
    log: Log | None = None,
) -> Policy:
    """The policy of plugins that name a source each, by default one that names ``people``."""
    uses = {"uses": "people"} if uses is None else uses
    plugins = {name: {"settings": {"people": source}} for name, source in uses.items()}
    document = {"sources": sources, "plugins": plugins}
    settings = from_document(document, folder / "config.toml")
    found = available(dict.fromkeys(uses, Uses))
    return build_policy(
        settings, available=found, context=BuildContext(log=log, shared=pool or SharedResources())
    )


def people(url: str = "one", **more: Any) -> dict[str, Any]:
    return {"driver": "people", "url": url, **more}


async def test_a_source_is_built_and_opened_once_for_all_plugins(lines: Lines) -> None:
    made = policy({"people": people()}, {"first": "people", "second": "people"})
    assert lines() == ["built one"]
    async with made.serving() as served:
        assert lines() == ["built one", "opened one"]
        first, second = (plugin.instance for plugin in served.plugins)
        assert isinstance(first, Uses)
        assert isinstance(second, Uses)
        assert first.people is second.people
        outcome = await decide(served, SERVICE)
        assert outcome.decision == Conference(name="one", service_tag="")
    assert lines() == ["built one", "opened one", "closed one"]


async def test_a_driver_makes_metrics_below_the_name_of_its_source(lines: Lines) -> None:
    telemetry = Telemetry()
    async with policy({"people": people()}).serving() as served:
        with hook_context("sources.people", "lifespan"):
            metrics.gauge("entries", "Entries.").set(7)
        telemetry.use_policy(served)
        exposed = expose(telemetry.snapshot())
    assert b"\npexpolicy_plugin_sources_people_entries 7.0\n" in exposed
    assert b"\npexpolicy_plugin_sources_people_built 1.0\n" in exposed


async def test_sources_are_opened_in_order_of_use_and_closed_in_reverse(lines: Lines) -> None:
    sources = {"unused": people("unused"), "other": people("other"), "people": people()}
    made = policy(sources, {"first": "people", "second": "other"})
    assert [str(warning) for warning in made.warnings if "sources" in warning.key] == [
        "sources.unused: no plugin uses it"
    ]
    async with made.serving():
        pass
    assert [line for line in lines() if not line.startswith("built")] == [
        *("opened one", "opened other"),
        *("closed other", "closed one"),
    ]


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown source": (
        {"poeple": people()},
        "plugins.uses.settings.people: there is no table [sources.people]; did you mean 'poeple'?",
    ),
    "no source at all": (
        {},
        "plugins.uses.settings.people: there is no table [sources.people]",
    ),
    "an unknown driver": (
        {"people": {"driver": "peple"}},
        "sources.people.driver: no driver peple is installed; did you mean 'people'?",
    ),
    "a driver that is no class": ({"people": {"driver": "function"}}, "is not an asynchronous"),
    "a driver that is missing": (
        {"people": {"driver": "missing"}},
        "sources.people.driver: missing cannot be imported: AttributeError",
    ),
    "no driver": ({"people": {"url": "one"}}, "sources.people.driver: is missing"),
    "an unknown key": (
        {"people": people(ulr="one")},
        "sources.people.ulr: unknown key; did you mean 'url'?",
    ),
    "a number of more than 64 bits": ({"people": people(10**20)}, "sources.people.url: "),  # type: ignore[arg-type]
    "a value of another type": ({"people": people(7)}, "sources.people.url: "),  # type: ignore[arg-type]
    "a driver that fails": (
        {"people": people(fails="built")},
        "sources.people: people cannot be built: OSError: no such server",
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_wrong_source_is_a_problem_with_its_key(lines: Lines, case: str) -> None:
    sources, expected = PROBLEMS[case]
    pool = SharedResources()
    with pytest.raises(ConfigError) as refused:
        policy(sources, pool=pool)
    assert expected in str(refused.value).replace("config.toml: ", "")
    assert not vars(pool)["_shared"]


class Wants:
    class Settings(PluginSettings):
        people: Source[asyncio.Queue[str]]

    def __init__(self, settings: Settings) -> None:
        self.people = settings.people

    @hookimpl
    async def service_configuration(self, request: object) -> Conference:
        return Conference(name=self.people.get_nowait(), service_tag="")


def test_a_source_of_another_class_is_a_problem(lines: Lines) -> None:
    document = {
        "sources": {"people": people()},
        "plugins": {"wants": {"settings": {"people": "people"}}},
    }
    settings = from_document(document, Path("config.toml"))
    with pytest.raises(ConfigError) as refused:
        build_policy(settings, available=available({"wants": Wants}))
    assert str(refused.value.problems[0]) == (
        "plugins.wants.settings.people: [sources.people] has the driver people, a People; "
        "name a source that is a Queue"
    )


async def test_a_test_passes_a_driver_itself() -> None:
    queue = asyncio.Queue[str]()
    queue.put_nowait("Sales")
    outcome = await decide((Wants, {"people": queue}), SERVICE)
    assert outcome.decision == Conference(name="Sales", service_tag="")
    with pytest.raises(ConfigError, match=r"write the NAME of a table \[sources.NAME\]"):
        await decide((Wants, {"people": 7}), SERVICE)


@pytest.mark.parametrize("kind", [Uses | Log, Union[Uses, None]])  # noqa: UP007 - both are written
def test_a_setting_may_take_drivers_of_several_classes(kind: Any) -> None:
    members = {"__annotations__": {"driver": Source[kind]}, "__module__": __name__}  # type: ignore[misc]
    model = type("Several", (PluginSettings,), members)
    driver = Uses.__new__(Uses)
    assert model(driver=driver).driver is driver
    with pytest.raises(ValueError, match="write the NAME of a table"):
        model(driver=object())


async def test_a_source_that_does_not_open_keeps_the_policy_from_serving(lines: Lines) -> None:
    pool = SharedResources()
    sources = {"other": people("other"), "people": people(fails="opened")}
    made = policy(sources, {"first": "other", "second": "people"}, pool)
    with pytest.raises(PluginStartupError) as refused:
        async with made.serving():
            pass
    assert str(refused.value.problems[0]).startswith(
        "sources.people: cannot be opened: OSError: no such server"
    )
    assert lines()[-1] == "closed other"
    assert not vars(pool)["_shared"]


async def test_a_source_whose_table_is_unchanged_is_kept_open(lines: Lines) -> None:
    pool = SharedResources()
    async with policy({"people": people()}, pool=pool).serving():
        second = policy({"people": people(), "more": people("more")}, pool=pool)
        async with second.serving():
            pass
        assert [line for line in lines() if "one" in line] == ["built one", "opened one"]
        third = policy({"people": people("two")}, pool=pool)
        async with third.serving():
            assert lines()[-2:] == ["built two", "opened two"]
        assert lines()[-1] == "closed two"
    assert lines()[-1] == "closed one"


async def test_a_source_without_paths_is_kept_open_in_another_folder(
    lines: Lines, tmp_path: Path
) -> None:
    pool, kept = SharedResources(), {"people": people()}
    folders = [tmp_path / name for name in ("v1", "v2")]
    for folder in folders:
        folder.mkdir()
        (folder / "list.txt").write_text(folder.name)
    for sources, is_kept in (
        (kept, True),
        ({"people": {"driver": "listed", "path": "list.txt"}}, False),
    ):
        first, second = (policy(sources, pool=pool, folder=folder) for folder in folders)
        assert ({*first.sources} == {*second.sources}) == is_kept
        first.close()
        second.close()
    assert lines().count("built one") == 1


async def test_a_source_outlives_the_policy_that_opened_it(lines: Lines) -> None:
    pool = SharedResources()
    first = policy({"people": people()}, pool=pool).serving()
    await first.__aenter__()
    second = policy({"people": people()}, pool=pool)
    await first.__aexit__(None, None, None)
    async with second.serving() as served:
        assert (await decide(served, SERVICE)).decided_by == "uses"
    assert lines() == ["built one", "opened one", "closed one"]


async def test_a_policy_that_never_serves_closes_what_only_it_uses(lines: Lines) -> None:
    pool = SharedResources()
    first = policy({"people": people()}, pool=pool).serving()
    await first.__aenter__()
    second = policy({"people": people()}, pool=pool)
    await first.__aexit__(None, None, None)
    assert lines()[-1] == "opened one"
    await asyncio.to_thread(second.close)
    await until(lambda: lines()[-1] == "closed one")


async def test_a_changed_file_builds_a_source_again(lines: Lines, tmp_path: Path) -> None:
    pool = SharedResources()
    sources = {"people": {"driver": "listed", "path": "list.txt"}}
    listed = tmp_path / "list.txt"
    listed.write_text("old")
    await asyncio.sleep(0.05)
    first = policy(sources, pool=pool, folder=tmp_path)
    assert listed in first.files
    async with first.serving():
        same = policy(sources, pool=pool, folder=tmp_path)
        assert {id(s) for s in same.sources} == {id(s) for s in first.sources}
        assert same.policy_hash == first.policy_hash
        listed.write_text("new")
        second = policy(sources, pool=pool, folder=tmp_path)
        assert second.policy_hash != first.policy_hash
        async with second.serving() as served:
            outcome = await decide(served, SERVICE)
            assert outcome.decision == Conference(name="new", service_tag="")
        same.close()
    assert lines()[-2:] == ["closed new", "closed old"]


async def test_a_source_that_has_failed_is_built_again_at_the_next_reload(lines: Lines) -> None:
    pool, log = SharedResources(), Log()
    first = policy({"people": {"driver": "breaks"}}, pool=pool, log=log)
    async with first.serving() as served:
        await until(lambda: log.events)
        assert [(e["plugin"], e["what"]) for e in log.events] == [
            ("sources.people", "its lifespan ended")
        ]
        assert served.lifespans["sources.people"].failures
        second = policy({"people": {"driver": "breaks"}}, pool=pool)
        assert next(iter(second.sources)).lifespan is None
        second.close()


async def test_refreshed_data_of_a_source_is_open_with_it_and_passes_to_the_next(
    lines: Lines, tmp_path: Path
) -> None:
    pool = SharedResources()

    def snapshot(every: float) -> dict[str, Any]:
        return {"people": {"driver": "snapshot", "url": "one", "every": every}}

    first = policy(snapshot(60.0), pool=pool)
    async with serve_with_admin(first, tmp_path) as server:
        (source,) = (await server.status())["sources"]
        assert (source["name"], source["driver"]) == ("people", "snapshot")
        assert source["data"]["people"]["age"] < 5
        metrics = await server.metrics()
        assert metrics("data_age_seconds", plugin="sources.people", data="people") < 5
        second = policy(snapshot(30.0), pool=pool)
        second.take_over(first)
        async with second.serving():
            pass
    assert lines().count("fetched one") == 1


async def test_a_draining_generation_keeps_its_sources(lines: Lines, tmp_path: Path) -> None:
    pool, audit = SharedResources(), open_audit(tmp_path / "audit.jsonl")
    first = generation_of(policy({"people": people()}, pool=pool), audit)
    await first.open()
    generations = Reloader(first, lambda _: second.policy, lambda _: None)
    first.in_flight += 1
    second = generation_of(policy({"people": people("two")}, pool=pool), audit)
    await second.open()
    generations.commit(second)
    await asyncio.sleep(0.05)
    assert "closed one" not in lines()
    first.end_call()
    await until(lambda: lines()[-1] == "closed one")
    await generations.close()
    audit.close()
    assert lines()[-1] == "closed two"
