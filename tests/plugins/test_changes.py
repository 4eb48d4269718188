"""What changes from one configuration to the next: names, and never values."""

from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.plugins.binding import configuration_changes

BASE = """
[plugins.rooms.settings.rooms."lobby@example.com"]
name = "Lobby"
pin = "482913"

[plugins.rules]
priority = 10
[[plugins.rules.settings.rules]]
name = "Scanners"
endpoint = "service_configuration"
when.vendor = "x"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Others"
endpoint = "service_configuration"
when.vendor = "y"
then = "reject"

[plugins.locations.settings]
subnets = [
    { subnet = "10.1.0.0/16", location = "Oslo" },
    { subnet = "10.2.0.0/16", location = "Oslo" },
]

[plugins.domains.settings]
allowed = ["example.com"]

[plugins.registrations.settings]
devices = [{ alias = "desk@example.com", username = "desk", password = "kvass-7" }]
"""


OTHERS = """
[infinity]
locations = ["Oslo"]
[privacy]
personal = "hashed"
key_env = "CHANGES_KEY"
[sources.db]
driver = "file"
path = "x.csv"
[plugins.rules.settings.sources.a]
source = "db"
"""

ADDED = (
    "configuration: added infinity.locations, plugins.rules.settings.sources, privacy.key_env, "
    "privacy_key, sources.db"
)


def changes(tmp_path: Path, before: str, after: str) -> list[str]:
    policies = []
    for name, text in (("before.toml", before), ("after.toml", after)):
        (tmp_path / name).write_text(text)
        policies.append(policy_from(tmp_path / name))
    old, new = policies
    return configuration_changes(new, old)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", []),
        (
            'name = "Lobby"',
            'name = "Lounge"',
            [
                "configuration: changed plugins.rooms.settings.rooms",
                "rooms: added Lounge",
                "rooms: removed Lobby",
            ],
        ),
        ("priority = 10", "priority = 20", ["configuration: changed plugins.rules.priority"]),
        (
            'when.vendor = "x"',
            'when.vendor = "z"',
            ["configuration: changed plugins.rules.settings.rules", "rules: changed Scanners"],
        ),
        (
            '[plugins.domains.settings]\nallowed = ["example.com"]\n',
            "[limits]\nconnections = 77\n",
            ["configuration: added limits.connections", "configuration: removed plugins.domains"],
        ),
        (
            'allowed = ["example.com"]',
            'allowed = ["*.example.com"]\notherwise = "abstain"',
            [
                "configuration: added plugins.domains.settings.otherwise",
                "configuration: changed plugins.domains.settings.allowed",
                "domains: added *.example.com",
                "domains: removed example.com",
            ],
        ),
        (
            '{ subnet = "10.2.0.0/16", location = "Oslo" }',
            '{ subnet = "10.2.0.0/16", location = "Bergen" }, { subnet = "::/0", location = "A" }',
            [
                "configuration: changed plugins.locations.settings.subnets",
                "locations: added ::/0",
                "locations: changed 10.2.0.0/16",
            ],
        ),
        (
            "kvass-7",
            "kvass-8",
            [
                "configuration: changed plugins.registrations.settings.devices",
                "registrations: changed desk@example.com",
            ],
        ),
        (
            "[plugins.rules]",
            OTHERS + "[plugins.rules]",
            [ADDED, "configuration: changed privacy.personal"],
        ),
    ],
)
def test_what_changes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CHANGES_KEY", "a secret of thirty-two characters")
    (tmp_path / "x.csv").write_text("a\n1\n")
    found = changes(tmp_path, BASE, BASE.replace(old, new) if old else BASE)
    assert found == expected
    assert not any(secret in str(found) for secret in ("482913", "kvass", "thirty-two"))


def test_another_order_of_rules_is_a_change(tmp_path: Path) -> None:
    head, first, second = BASE.split("[[plugins.rules")
    second, rest = second.split("[plugins.locations", 1)
    swapped = f"{head}[[plugins.rules{second}[[plugins.rules{first}"
    found = changes(tmp_path, BASE, f"{swapped}[plugins.locations{rest}")
    assert found[-1] == "rules: changed the order of the rules"


def test_an_isolated_plugin_and_one_without_the_hook_name_their_settings(tmp_path: Path) -> None:
    upstream: Any = "[plugins.upstream.settings.targets.a]\nurl = 'http://127.0.0.1:9/'\n"
    after = upstream.replace(":9", ":8") + "[plugins.upstream.settings.targets.b]\nurl='http://h'\n"
    assert changes(tmp_path, upstream, after) == [
        "configuration: changed plugins.upstream.settings.targets"
    ]
