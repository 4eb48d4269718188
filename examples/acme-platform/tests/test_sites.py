"""The rooms of two sites: two instances of one plugin."""

import tomllib

import pytest

from acme_platform.sites import Site
from pexpolicy import Conference, Lecture
from pexpolicy.testing import ConfigError, Outcome, decide_sync, make_policy, make_request

SETTINGS = tomllib.loads("""
[oslo]
plugin = "site"
settings.networks = ["10.1.0.0/16", "2001:db8:1::/48"]
settings.look = { ivr_theme_name = "Fjord", pin = "471147" }
settings.locked_for = ["Mallory@elsewhere.example"]
settings.rooms."sip:Board@acme.example" = { name = "Board Oslo" }

[london]
plugin = "site"
settings.networks = ["10.2.0.0/16"]
settings.rooms."board@acme.example" = { name = "Board London", service_type = "lecture" }
""")


def called(address: str, caller: str = "dana@acme.example") -> Outcome:
    request = make_request(
        "service_configuration",
        local_alias="BOARD@acme.example",
        remote_alias=caller,
        remote_address=address,
    )
    first: dict[str, object] = {"networks": [], "rooms": {}}
    return decide_sync({"site": (Site, first)}, request, config={"plugins": SETTINGS})


def test_each_site_has_its_rooms_and_its_name() -> None:
    oslo, london = called("2001:db8:1::7"), called("10.2.3.4")
    assert (oslo.decided_by, london.decided_by) == ("oslo", "london")
    assert oslo.decision == Conference(
        name="Board Oslo", service_tag="site", ivr_theme_name="Fjord", pin="471147"
    )
    assert london.decision == Lecture(name="Board London", service_tag="site")


def test_a_caller_on_the_list_finds_the_room_locked() -> None:
    decision = called("10.1.0.1", "sip:mallory@elsewhere.example").decision
    assert decision.set_fields()["locked"] is True


@pytest.mark.parametrize("address", ["192.0.2.1", ""])
def test_others_are_left_to_the_next_plugin(address: str) -> None:
    assert called(address).decided_by == "default"


def test_each_mistake_has_its_key() -> None:
    settings = {
        "networks": ["10.0.0.1/8"],
        "look": {"host_view": "one_main_zero_pips"},
        "rooms": {"board": {"name": 7}, "": {}},
    }
    with pytest.raises(ConfigError) as caught:
        make_policy({"oslo": (Site, settings)})
    keys = [str(problem).partition(":")[0] for problem in caught.value.problems]
    assert keys[-3:] == [
        "plugins.oslo.settings.look.host_view",
        "plugins.oslo.settings.rooms.board.name",
        'plugins.oslo.settings.rooms.""',
    ]


def test_a_room_without_a_name_is_a_problem_of_the_room() -> None:
    settings = {"networks": ["10.0.0.0/8"], "rooms": {"board": {"pin": "4711"}}}
    with pytest.raises(ConfigError, match=r"settings\.rooms\.board\.name: is required"):
        make_policy({"oslo": (Site, settings)})


def test_a_site_without_addresses_is_warned_of() -> None:
    policy = make_policy({"oslo": (Site, {"networks": [], "rooms": {}})})
    assert "networks: is empty: nobody calls" in str(policy.warnings[0])
