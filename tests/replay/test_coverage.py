"""Coverage of rooms, rules, branches and subnets, by records and by cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import invoked
from tests.support import wire

CONFIG = """
[plugins.rules]
priority = 10
[[plugins.rules.settings.rules]]
name = "Blocked"
endpoint = ["service_configuration", "participant_properties"]
when = { remote_alias = "mallory@example.net" }
then = { action = "reject" }
[[plugins.rules.settings.rules]]
name = "Never"
endpoint = "service_configuration"
when = { local_alias = "nobody" }
then = { action = "reject" }
[[plugins.rules.settings.rules]]
name = "Made for the call"
endpoint = "service_configuration"
when = { local_alias = { prefix = "made" } }
then.result = { name = "{local_alias}", service_tag = "" }
[[plugins.rules.settings.rules]]
name = "Either"
endpoint = "service_configuration"
when.any = [
    { vendor = "Cisco" },
    { protocol = "sip", any = [
        { location = "Oslo" },
        { time = { zone = "UTC", dates = [2026-01-15] } },
    ] },
]
then = { action = "reject" }

[plugins.rooms.settings.rooms]
lobby = { name = "Lobby", service_tag = "" }
office = { name = "Office", service_tag = "" }

[plugins.locations.settings]
default = "Oslo"
subnets = [
    { subnet = "10.0.0.0/8", location = "Oslo" },
    { subnet = "10.1.0.0/16", location = "Bergen" },
]
"""
URLS = (
    f"{wire.SERVICE}?local_alias=lobby",
    f"{wire.SERVICE}?local_alias=lobby&remote_alias=sip:mallory@example.net",
    f"{wire.SERVICE}?local_alias=made1",
    f"{wire.SERVICE}?local_alias=made2",
    f"{wire.SERVICE}?local_alias=x&protocol=sip&location=Oslo",
    f"{wire.SERVICE}?local_alias=x&protocol=sip&location=Oslo&vendor=Cisco",
    "/policy/v1/participant/location?remote_address=10.1.2.3",
)
SIP, OSLO = "protocol.equals = 'sip'", "location.equals = 'Oslo'"
DAY = "time = 2026-01-15 UTC"
USED = {
    ("rules", "rule", "Blocked"): 1,
    ("rules", "branch", "Blocked: service_configuration"): 1,
    ("rules", "branch", "Blocked: participant_properties"): 0,
    ("rules", "rule", "Never"): 0,
    ("rules", "rule", "Made for the call"): 2,
    ("rules", "rule", "Either"): 2,
    ("rules", "branch", "Either: vendor.equals = 'Cisco'"): 1,
    ("rules", "branch", f"Either: any of ({OSLO}; {DAY}) and {SIP}"): 2,
    ("rules", "branch", f"Either: {OSLO}"): 2,
    ("rules", "branch", f"Either: {DAY}"): 0,
    ("rooms", "room", "lobby"): 1,
    ("rooms", "room", "office"): 0,
    ("locations", "subnet", "10.0.0.0/8"): 0,
    ("locations", "subnet", "10.1.0.0/16"): 1,
    ("locations", "default", "default"): 0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "urls").write_text("\n".join(URLS) + "\n")
    (tmp_path / "cases.toml").write_text(
        "".join(f'[[case]]\nname = "{n}"\nurl = "{url}"\n' for n, url in enumerate(URLS))
    )
    return tmp_path


def counted(items: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    return {(item["plugin"], item["kind"], item["name"]): item["decided"] for item in items}


def test_what_records_used_and_what_they_never_used(folder: Path) -> None:
    command = ["replay", str(folder / "urls"), "--config", str(folder / "config.toml")]
    done = invoked(*command, "--json")
    coverage = json.loads(done.stdout)["coverage"]
    assert counted(coverage["items"]) == USED
    steps = {(row["plugin"], row["hook"]): row["steps"] for row in coverage["hooks"]}
    assert steps["rooms", "service_configuration"] == {"decided": 1}
    shown = invoked(*command, "--report", str(folder / "page.html")).stdout
    assert "rules: 3 of 4 used (rule)\n  never used: Never" in shown
    assert "locations: 1 of 2 used (subnet)\n  never used: 10.0.0.0/8" in shown
    page = (folder / "page.html").read_text()
    assert "never used" in page
    assert "10.0.0.0/8" in page


def test_what_cases_used_and_what_they_never_used(folder: Path) -> None:
    command = ["test", str(folder / "cases.toml"), "--config", str(folder / "config.toml")]
    assert counted(json.loads(invoked(*command, "--json").stdout)["coverage_items"]) == USED
    done = invoked(*command, "--report", str(folder / "page.html"))
    assert "rooms: 1 of 2 used (room)\n  never used: office" in done.stdout
    assert "Coverage of the cases" in (folder / "page.html").read_text()


def test_a_time_counts_where_a_call_was_in_it(folder: Path) -> None:
    case = f'[[case]]\nname = "a"\nurl = "{URLS[-3]}"\nat = "2026-01-15 12:00 UTC"\n'
    (folder / "cases.toml").write_text(case)
    command = ["test", str(folder / "cases.toml"), "--config", str(folder / "config.toml")]
    found = counted(json.loads(invoked(*command, "--json").stdout)["coverage_items"])
    assert found["rules", "branch", f"Either: {DAY}"] == 1


def test_a_plugin_that_cannot_list_its_items_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "policies").mkdir()
    (folder / "policies/desks.py").write_text(
        "from pexpolicy import Plugin, PluginSettings\n\n\n"
        "class Desks(Plugin[PluginSettings]):\n"
        "    async def service_configuration(self, request):\n        return None\n\n"
        "    def coverage_items(self):\n        return [('desk', 'north')]\n"
    )
    config = folder / "config.toml"
    config.write_text('plugin_dirs = ["policies"]\n[plugins.desks]\n')
    for command, *more in (("test", "cases.toml", "--json"), ("replay", "urls", "--json")):
        done = invoked(command, str(folder / more[0]), "--config", str(config), more[1])
        assert done.exit_code == 78
        assert all(word in done.stderr for word in ("plugins.desks", "coverage_items"))
