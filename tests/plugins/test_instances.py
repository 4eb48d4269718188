"""Instances of plugins under names of their own, and distributions that share a name."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy import Conference, Plugin, PluginSettings, ServiceConfigurationRequest
from pexpolicy.builder import build_policy
from pexpolicy.cli.main import main
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.testing import make_policy, make_request
from tests.support import wire
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import Serve, available, settings


class Names(PluginSettings):
    user: str


class Greeter(Plugin[Names]):
    """Answers for one user, from a thread of its own, and with the name of the thread."""

    def service_configuration(self, request: ServiceConfigurationRequest) -> Conference | None:
        if request.local_alias.user != self.settings.user:
            return None
        return Conference(name=threading.current_thread().name, service_tag="")

    def status(self) -> dict[str, object]:
        return {"user": self.settings.user}


TWO: dict[str, dict[str, Any]] = {
    "oslo": {"plugin": "greeter", "settings": {"user": "oslo"}},
    "london": {"plugin": "greeter", "settings": {"user": "london"}, "breaker": True},
}


def problems(**tables: dict[str, Any]) -> list[str]:
    found = available({"greeter": Greeter})
    with pytest.raises(ConfigError) as caught:
        build_policy(settings(tables), available=found)
    return [str(problem) for problem in caught.value.problems]


async def test_each_instance_has_its_settings_its_name_and_its_threads(serving: Serve) -> None:
    policy = build_policy(settings(TWO), available=available({"greeter": Greeter}))
    assert [str(plugin.available) for plugin in policy.plugins] == [
        "oslo (greeter of toy-greeter 1.0)",
        "london (greeter of toy-greeter 1.0)",
    ]
    links = {link.plugin: link for link in policy.links()}
    assert links["oslo"].breaker is None
    assert links["london"].breaker is not None
    async with serving(policy) as server:
        for name in TWO:
            reply = await server.ask(f"{wire.SERVICE}?local_alias={name}")
            assert reply.json["decided_by"] == name
            assert reply.result["name"].startswith(f"plugin-{name}")
        assert server.steps() == [("oslo", "abstained"), ("london", "decided")]


async def test_status_and_metrics_have_the_names_of_the_instances(tmp_path: Path) -> None:
    policy = build_policy(settings(TWO), available=available({"greeter": Greeter}))
    async with serve_with_admin(policy, tmp_path) as server:
        for _ in range(3):
            await server.ask(f"{wire.SERVICE}?local_alias=london")
        status = {plugin["name"]: plugin for plugin in (await server.status())["plugins"]}
        metrics = await server.metrics()
    assert {name: plugin["calls"] for name, plugin in status.items()} == {
        "oslo": {"abstained": 3},
        "london": {"decided": 3},
    }
    assert status["oslo"]["distribution"] == status["london"]["distribution"] == "toy-greeter"
    calls = metrics.nonzero("plugin_calls_total")
    assert calls == {("abstained", "oslo"): 3, ("decided", "london"): 3}


async def test_an_instance_in_a_process_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(
        "from pexpolicy import Plugin, PluginSettings, Reject\n"
        "class Settings(PluginSettings):\n"
        "    reason: str\n"
        "class Greeter(Plugin[Settings]):\n"
        "    async def service_configuration(self, request):\n"
        "        return Reject(reason=self.settings.reason)\n"
    )
    table = {"plugin": "greeter", "isolation": "process", "processes": 1}
    document = {
        "plugin_dirs": ["."],
        "plugins": {"front": {**table, "settings": {"reason": "closed"}}},
    }
    policy = build_policy(from_document(document, tmp_path / "config.toml"))
    assert list(policy.plugins[0].implemented) == ["service_configuration"]
    async with policy.serving():
        answer = await policy.answer(make_request("service_configuration"), "1")
    assert (answer.outcome.decided_by, answer.outcome.decision.reason) == ("front", "closed")


async def test_the_kit_for_tests_builds_instances() -> None:
    policy = make_policy({"greeter": (Greeter, {"user": "x"})}, config={"plugins": TWO})
    assert [plugin.name for plugin in policy.plugins] == ["greeter", "oslo", "london"]
    policy.close()


def test_problems_have_the_name_of_the_instance() -> None:
    (text,) = problems(oslo={"plugin": "greeter", "settings": {"usr": "x", "user": "y"}})
    assert text == "plugins.oslo.settings.usr: unknown key; did you mean 'user'?"


@pytest.mark.parametrize(
    ("name", "table", "text"),
    [
        ("oslo", {"plugin": "greter"}, "plugins.oslo.plugin: no plugin of this name is installed"),
        ("oslo", {"plugin": "greter"}, "did you mean 'greeter'?"),
        ("oslo", {}, "plugins.oslo: no plugin of this name is installed; there are greeter"),
        ("greeter2", {}, 'for one more instance write plugin = "NAME"'),
        ("default", {"plugin": "greeter"}, "plugins.default: is a reserved name"),
        ("guard", {}, "plugins.guard: is a reserved name"),
        ("Oslo Sentrum", {"plugin": "greeter"}, "write small letters, digits and _"),
        ("1st", {"plugin": "greeter"}, "write small letters, digits and _"),
        ("x", {"plugin": "x"}, "plugins.x.plugin: no plugin of this name is installed"),
        ("x", {"plugin": "acme:greeter"}, "greeter is in toy-greeter 1.0"),
    ],
)
def test_a_wrong_name_is_reported(name: str, table: dict[str, Any], text: str) -> None:
    (problem,) = problems(**{name: table})
    assert text in problem


SOURCE = """
from pexpolicy import Plugin, Reject

class Vip(Plugin):
    async def service_configuration(self, request):
        return Reject(reason="by {name}")
"""


@pytest.fixture
def two_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installed distributions that both have a plugin ``vip``."""
    for name in ("acme", "globex"):
        (tmp_path / f"{name}_vip.py").write_text(SOURCE.format(name=name))
        folder = tmp_path / f"{name}_vip-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-vip\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[pexpolicy]\nvip = {name}_vip:Vip\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def built(tmp_path: Path, **tables: dict[str, Any]) -> Any:
    return build_policy(from_document({"plugins": tables}, tmp_path / "config.toml"))


@pytest.mark.usefixtures("two_distributions")
def test_a_name_of_two_distributions_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        built(tmp_path, vip={})
    (text,) = map(str, caught.value.problems)
    assert text.startswith("plugins.vip: ")
    assert "acme-vip 1.0" in text
    assert "globex-vip 1.0" in text
    assert 'write which is meant, as in plugin = "' in text


@pytest.mark.usefixtures("two_distributions")
async def test_the_distribution_says_which_is_meant(tmp_path: Path) -> None:
    policy = built(
        tmp_path, vip={"plugin": "acme-vip:vip"}, other={"plugin": "Globex_VIP:vip", "priority": 1}
    )
    assert [str(plugin.available) for plugin in policy.plugins] == [
        "other (vip of globex-vip 1.0)",
        "vip (acme-vip 1.0)",
    ]
    async with policy.serving():
        answer = await policy.answer(make_request("service_configuration"), "1")
    assert answer.outcome.decision.reason == "by globex"


@pytest.mark.usefixtures("two_distributions")
def test_the_listing_names_instances_and_both_distributions(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[plugins.night]\nplugin = "acme-vip:vip"\n')
    result = CliRunner().invoke(main, ["plugins", "--json", "--config", str(config)])
    rows = {
        (row["name"], row["plugin"], row["distribution"], row["state"])
        for row in json.loads(result.stdout)["plugins"]
        if row["plugin"] == "vip"
    }
    assert rows == {
        ("night", "vip", "acme-vip", "active"),
        ("vip", "vip", "globex-vip", "available"),
    }
