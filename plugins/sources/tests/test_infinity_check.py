"""``pexpolicy infinity check``: each mistake is found, and none that is not there."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy.testing import ManagementApi
from pexpolicy_sources.infinity import RESOURCES
from tests.support import certificates

CONFIG = """
[server]
host = "127.0.0.1"
port = 8123
base_path = "/api/pexip"
[auth]
user = "pexip"
password_file = "password"
[admin]
enabled = false
[events]
user = "sink"
password_file = "password"
[audit]
path = "audit.jsonl"
[sources.mgr]
driver = "infinity"
url = "{url}"
password_file = "password"
user = "reader"
[infinity]
source = "mgr"
locations = ["Oslo"]
[[plugins.rules.settings.rules]]
name = "Avatars of others"
endpoint = "service_configuration"
when.local_alias = "nobody@example.com"
then.action = "reject"
[plugins.rooms.settings.rooms."clinic@example.com"]
name = "Clinic"
service_tag = ""
pin = "048215"
ivr_theme_name = "Acme"
"""
SINK = "http://127.0.0.1:8123/api/pexip/events/v1"
Change = Callable[[ManagementApi], object]


def right() -> ManagementApi:
    """Return a platform without a mistake."""
    api = ManagementApi()
    for kind, resource in RESOURCES.items():
        if kind not in ("themes", "locations"):
            api.add(resource, {"name": f"One of {kind}"})
    api.add("ivr_theme", {"name": "Acme"})
    (profile,) = api.add("policy_server", {
        "name": "policy", "url": "http://127.0.0.1:8123/api/pexip", "username": "pexip",
        "enable_service_lookup": True, "enable_participant_lookup": False,
    })  # fmt: skip
    (sink,) = api.add("event_sink", {
        "name": "sink", "url": SINK, "username": "",
    })  # fmt: skip
    api.add("system_location", {"name": "Oslo", "policy_server": profile, "event_sinks": [sink]})
    (room,) = api.add("conference", {"name": "Local"})
    api.add("conference_alias", {"alias": "local@example.com", "conference": room})
    api.add("worker_vm", {"name": "node"})
    api.add("device", {"alias": "desk@example.com"})
    api.objects["status/alarm"] = []
    return api


def changed(resource: str, **fields: Any) -> Change:
    return lambda api: api.objects[resource][0].update(fields)


def added(resource: str, **fields: Any) -> Change:
    return lambda api: api.add(resource, fields)


def removed(resource: str) -> Change:
    return lambda api: api.objects[resource].clear()


def checked(api: ManagementApi, folder: Path, *options: str, more: str = "") -> Result:
    (folder / "password").write_text("of the platform")
    config = folder / "config.toml"

    async def run() -> Result:
        async with api.serving() as url:
            text = CONFIG.format(url=url)
            config.write_text(text.replace('user = "reader"', f'user = "reader"{more}'))
            arguments = ["infinity", "check", "--config", str(config), *options]
            return await asyncio.to_thread(CliRunner().invoke, main, arguments)

    return asyncio.run(run())


def listed(result: Result) -> list[dict[str, str]]:
    """Return the findings in JSON, with what was looked at and its object apart."""
    found = json.loads(result.stdout)
    for one in found:
        *where, one["check"], one["subject"] = one["subject"].split(": ", 2)
        one["subject"] = ": ".join([*where, one["subject"]])
    return [*found]


def test_a_platform_without_a_mistake_has_none(tmp_path: Path) -> None:
    result = checked(right(), tmp_path, "--json")
    found = [one for one in listed(result) if one["state"] in ("error", "warning")]
    assert (found, result.exit_code) == ([], 0)
    assert "0 errors, 0 warnings" in checked(right(), tmp_path).stdout


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        (removed("policy_server"), "profile", "none is for"),
        (changed("policy_server", url="http://127.0.0.1:8123/api"), "profile", "and not http"),
        (
            changed("policy_server", url="http://127.0.0.1:8123/api/pexip/policy/v1"),
            "profile",
            "and not http",
        ),
        (changed("policy_server", url="http://127.0.0.1/api/pexip"), "profile", "and not http"),
        (
            changed("policy_server", url="http://127.0.0.1:8123/api/pexip?x=1"),
            "profile",
            "and not http",
        ),
        (
            changed("policy_server", url="https://127.0.0.1:8123/api/pexip"),
            "profile",
            "and not http",
        ),
        (
            changed("policy_server", url="http://old.example.com:8123/api/pexip"),
            "profile",
            "none is for",
        ),
        (changed("policy_server", username="other"), "profile", "its user is other"),
        (changed("policy_server", username=""), "profile", "not set"),
        (changed("policy_server", enable_service_lookup=False), "profile", "asks for nothing"),
        (
            changed("policy_server", enable_service_lookup=False, enable_avatar_lookup=True),
            "profile",
            "enable_service_lookup is off: rules is not asked",
        ),
        (changed("device", alias="Clinic@example.com"), "room", "rooms answers 'Clinic'"),
        (changed("system_location", policy_server=None), "location", "no policy profile"),
        (
            added("system_location", name="Bergen", policy_server="/x/9/", event_sinks=[]),
            "location",
            "not for this server",
        ),
        (changed("system_location", event_sinks=[]), "location", "no event sink"),
        (
            changed("system_location", name="Olso"),
            "name",
            "Infinity does not have it; did you mean 'Olso'?",
        ),
        (removed("event_sink"), "events", "none is for"),
        (changed("event_sink", url=f"{SINK}/"), "events", "and not http"),
        (
            lambda api: (
                added("event_sink", name="b", url=SINK)(api)
                and api.objects["system_location"][0]["event_sinks"].append(
                    api.objects["event_sink"][1]["resource_uri"]
                )
            ),
            "location",
            "events come twice",
        ),
        (changed("event_sink", url="http://127.0.0.1:8123/events/v1"), "events", "and not http"),
        (
            changed("event_sink", filter_events=True, events=["participant_connected"]),
            "events",
            "participant_disconnected, participant_updated",
        ),
        (changed("event_sink", username="other"), "events", "its user is other"),
        (
            lambda api: api.objects["status/alarm"].append({"name": "Event sink stopped"}),
            "events",
            "alarm",
        ),
        (changed("ivr_theme", name="Acme 2"), "name", "clinic@example.com"),
        (changed("conference_alias", alias="Clinic@example.com"), "room", "rooms answers 'Clinic'"),
        (
            lambda api: (
                changed("conference", name="Clinic")(api),
                changed("conference_alias", alias="clinic@example.com")(api),
            ),
            "alias",
            "Infinity's own is used",
        ),
    ],
)
def test_a_mistake_is_found(change: Change, check: str, text: str, tmp_path: Path) -> None:
    api = right()
    change(api)
    result = checked(api, tmp_path, "--json")
    found = [one for one in listed(result) if one["state"] in ("error", "warning")]
    assert result.exit_code == 1
    assert [one for one in found if one["check"] == check and text in one["text"]], found
    assert "048215" not in result.output


RULE = """[[plugins.rules.settings.rules]]
name = "Some"
endpoint = "service_configuration"
{}"""


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ('[endpoints.service_configuration]\ndefault = "reject"', "default rejects the call"),
        (RULE.format('then.action = "reject"'), "rules rejects the call"),
        (
            RULE.format('then.action = "redirect"\nthen.new_alias = "sip:a@b.example"'),
            "rules redirects the call",
        ),
        (RULE.format('when.protocol = "api"\nthen.result = { name = "Web" }'), "answers 'Web'"),
        (RULE.format('when.protocol = "sip"\nthen.action = "reject"'), ""),
        (RULE.format('when.registered = false\nthen.action = "reject"'), ""),
    ],
)
def test_what_keeps_calls_from_a_room_of_infinity_is_found(
    more: str, text: str, tmp_path: Path
) -> None:
    found = listed(checked(right(), tmp_path, "--json", more=f"\n{more}"))
    rooms = [one["text"] for one in found if one["check"] == "room"]
    assert all(text in one for one in rooms)
    assert bool(rooms) == bool(text)


def test_a_location_with_proxying_nodes_only_needs_no_event_sink(tmp_path: Path) -> None:
    api = right()
    (edge,) = api.add(
        "system_location",
        {"name": "Edge", "policy_server": api.objects["policy_server"][0]["resource_uri"]},
    )
    api.add(
        "worker_vm",
        {"node_type": "proxying", "system_location": edge},
    )
    result = checked(api, tmp_path, "--json")
    assert result.exit_code == 0, result.output
    changed("worker_vm", system_location=edge)(api)
    assert "has no event sink" in checked(api, tmp_path).output


@pytest.mark.parametrize(
    ("written", "host", "text"),
    [
        ({}, certificates.NAME, ""),
        ({"of": "nobody"}, certificates.NAME, "not trusted by"),
        ({"days": 5.5}, certificates.NAME, "expires in"),
        ({}, "127.0.0.1", f"is for {certificates.NAME}, and not for 127.0.0.1"),
    ],
)
def test_our_certificate_is_checked(
    written: dict[str, Any], host: str, text: str, tmp_path: Path
) -> None:
    certificates.write_pair(tmp_path, **written)
    certificates.write_authority(tmp_path)
    api = right()
    for resource, path in (("policy_server", ""), ("event_sink", "/events/v1")):
        changed(resource, url=f"https://{host}:8123/api/pexip{path}")(api)
    more = '\nca_file = "ca.pem"\n[tls]\ncertificate = "server.pem"\nkey = "server.key"'
    result = checked(api, tmp_path, "--json", more=more)
    found = [one for one in listed(result) if one["state"] in ("error", "warning")]
    assert [one["check"] for one in found] == (["certificate"] if text else [])
    assert text in "".join(one["text"] for one in found)


def test_the_url_of_a_proxy_is_named(tmp_path: Path) -> None:
    api, url = right(), "https://policy.example.com/pexip"
    for resource, more in (("policy_server", ""), ("event_sink", "/events/v1")):
        changed(resource, url=f"{url}{more}")(api)
    result = checked(api, tmp_path, "--url", url)
    assert (result.exit_code, "0 errors, 0 warnings" in result.stdout) == (0, True)
    assert checked(api, tmp_path).exit_code == 1


def test_what_only_a_proxy_knows_is_no_mistake(tmp_path: Path) -> None:
    api, url = right(), "https://127.0.0.1/api/pexip"
    for resource, more in (("policy_server", ""), ("event_sink", "/events/v1")):
        changed(resource, url=f"{url}{more}")(api)
    assert checked(api, tmp_path).exit_code == 1
    proxies = '\n[access]\ntrusted_proxies = ["10.44.0.0/16"]'
    assert checked(api, tmp_path, more=proxies).exit_code == 0


@pytest.mark.parametrize("refused", [{"event_sink", "policy_server"}, {"system_location"}])
def test_what_the_account_may_not_read_is_only_said(refused: set[str], tmp_path: Path) -> None:
    api = right()
    api.faults.update(dict.fromkeys(refused, "forbidden"))
    found = listed(checked(api, tmp_path, "--json"))
    assert {one["subject"] for one in found if one["state"] == "skipped"} == refused
    assert not [one for one in found if one["state"] in ("error", "warning")]


@pytest.mark.parametrize("value", [7, True, "text", {"a": 1}, [{"a": 1}, None, ["x"]]])
def test_fields_of_another_type_are_no_traceback(value: object, tmp_path: Path) -> None:
    api = right()
    for rows in api.objects.values():
        for row in rows:
            keep = {key: row[key] for key in ("resource_uri", "url") if key in row}
            row.update(dict.fromkeys((*row, "aliases", "events", "filter_events"), value), **keep)
    result = checked(api, tmp_path, "--json")
    assert (result.exit_code, "048215" in result.output) == (1, False), result.output


def test_an_api_that_is_down_is_exit_code_75(tmp_path: Path) -> None:
    api = right()
    api.faults["*"] = "broken"
    assert checked(api, tmp_path).exit_code == 75


async def test_each_environment_is_compared_with_its_own_platform(tmp_path: Path) -> None:
    east, west = right(), right()
    changed("ivr_theme", name="Acme 2")(west)
    changed("conference_alias", alias="clinic@example.com")(east)
    (tmp_path / "password").write_text("of the platform")
    config = tmp_path / "config.toml"
    async with east.serving() as one, west.serving() as other:
        text = CONFIG.format(url=one).replace('source = "mgr"', "")
        second = text[text.index("[sources.mgr]") : text.index("[infinity]")]
        text += second.replace("mgr", "west").replace(one, other)
        for name, source, net in (
            ("east", "mgr", "10.44.0.0/24"),
            ("west", "west", "10.44.1.0/24"),
        ):
            text += f'[environments.{name}]\nnetworks = ["{net}"]\ninfinity.source = "{source}"\n'
        text += '[plugins.rooms]\nenvironments = ["west"]\n'
        config.write_text(text.replace("[events]", "[events.east]"))
        arguments = ["infinity", "check", "--config", str(config), "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    found = [one for one in listed(result) if one["state"] in ("error", "warning")]
    assert [one["subject"] for one in found if one["check"] in ("name", "room")] == ["west: Acme"]
