"""`pexpolicy explain` with an alias, and parameters that are set."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.cli.test_main import invoked, written
from tests.support import live_server, wire

SHIPPED = str(live_server.SHIPPED)
RULES = """
[plugins.rules.settings]
[[plugins.rules.settings.rules]]
name = "From the proxy"
endpoint = "service_configuration"
when.peer = "192.0.2.7"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Asserted"
endpoint = "service_configuration"
when.p_asserted_identity.contains = "alice"
then = "reject"
[[plugins.rules.settings.rules]]
name = "From Oslo"
endpoint = "service_configuration"
when.remote_address.in_subnet = "10.44.0.0/16"
when.params.new_parameter = "yes"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Analysts"
endpoint = "participant_properties"
when.idp_attributes.groups = "analysts"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Everybody else"
endpoint = "registration_alias"
when.alias.user = "alice"
then = "reject"
"""


def explained(*arguments: str) -> dict[str, Any]:
    shown = invoked("explain", "--json", *arguments)
    assert shown.exit_code == 0, shown.output
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_assumed_parameters_are_printed_where_they_are_asked_for() -> None:
    arguments = ("explain", "-c", SHIPPED, "engineering", "--set", "protocol=sip")
    short, long = invoked(*arguments).stdout, invoked(*arguments, "-v").stdout
    for name, is_given in (("local_alias", True), ("protocol", True), ("vendor", False)):
        assert (f"  {name} = " in short, f"  {name} = " in long) == (is_given, True)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return written(tmp_path, RULES)


def test_an_alias_is_asked_about_as_a_node_asks() -> None:
    shown = explained("--config", SHIPPED, "sip:Engineering@example.com")
    assert shown["endpoint"] == "service_configuration"
    assert shown["request"]["local_alias"] == "sip:Engineering@example.com"
    assert shown["request"]["call_direction"] == "dial_in"
    assert shown["decided_by"] == "rooms"
    assert shown["reply"]["result"]["name"] == "Engineering Room"


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("media_location", "local_alias"),
        ("participant_properties", "service_name"),
        ("directory_information", "q"),
        ("registration_alias", "alias"),
        ("participant_avatar", "alias"),
    ],
)
def test_an_alias_is_the_parameter_that_the_endpoint_is_about(endpoint: str, name: str) -> None:
    shown = explained("-c", SHIPPED, "alice@example.com", "--endpoint", endpoint)
    assert shown["endpoint"] == endpoint
    assert shown["request"][name] == "alice@example.com"


def test_any_parameter_is_set_by_its_attribute_or_its_name_on_the_wire(config: str) -> None:
    sets = ("--set", "remote_address=10.44.0.7", "--set", "new_parameter=yes")
    shown = explained("-c", config, "meet07", *sets)
    assert (shown["decided_by"], shown["action"]) == ("rules", "reject")
    assert shown["remarks"] == ["new_parameter is not a known parameter of service_configuration"]
    for name in ("idp_attributes.groups", "idp_attribute_groups"):
        sets = ("--set", f"{name}=managers", "--set", f"{name}=analysts")
        shown = explained("-c", config, "meet07", "--endpoint", "participant_properties", *sets)
        assert shown["request"]["idp_attribute_groups"] == ["managers", "analysts"]
        assert (shown["action"], shown["remarks"]) == ("reject", [])


def test_a_parameter_of_a_pasted_request_is_changed_as_well(config: str) -> None:
    target = f"https://policy.example.com{wire.REGISTRATION}bob?protocol=sip"
    assert explained("-c", config, target)["decided_by"] == "default"
    shown = explained("-c", config, target, "--set", "alias=alice")
    assert shown["action"] == "reject"
    assert shown["request"] == {"protocol": "sip", "alias": "alice"}


def test_a_header_is_changed_in_each_spelling_of_its_name(config: str) -> None:
    target = f"{wire.SERVICE}?P-Asserted-Identity=<sip:alice@example.com>"
    assert explained("-c", config, target)["action"] == "reject"
    sets = ("--set", "p_asserted_identity=<sip:bob@example.com>")
    shown = explained("-c", config, target, *sets)
    assert shown["request"] == {"p_Asserted-Identity": "<sip:bob@example.com>"}
    assert shown["action"] == "continue"


def test_the_address_of_the_client_is_set_as_well(config: str) -> None:
    shown = explained("-c", config, "meet07", "--set", "peer=192.0.2.7")
    assert (shown["reason"], shown["remarks"]) == ("rule From the proxy", [])
    assert "peer" not in shown["request"]


@pytest.mark.parametrize(
    "alias", ["sip:+4722334455@example.com;transport=tls;user=phone", "tel:+47-22;ext=1;isub=2;a=3"]
)
def test_an_alias_may_have_several_parameters(config: str, alias: str) -> None:
    assert explained("-c", config, alias)["request"]["local_alias"] == alias


def test_a_misspelt_parameter_is_mentioned() -> None:
    shown = invoked("explain", "-c", SHIPPED, "meet07", "--set", "remote_adress=10.44.0.7")
    assert "remote_adress is not a known parameter" in shown.stdout
    assert "did you mean 'remote_address'?" in shown.stdout


def test_a_pin_is_printed_only_where_it_is_asked_for(tmp_path: Path) -> None:
    room = '[plugins.rooms.settings.rooms.board]\nname = "Board"\npin = "481516"\n'
    config = written(tmp_path, room)
    for arguments in ([], ["--json"]):
        shown = invoked("explain", "-c", config, "board", *arguments)
        assert shown.exit_code == 0, shown.output
        assert "481516" not in shown.output
        assert (
            "481516"
            in invoked("explain", "-c", config, "board", "--show-secrets", *arguments).output
        )


def test_a_line_of_other_bytes_than_utf_8_is_refused() -> None:
    for line, code in ((b"/policy/v1/registrations/caf\xe9\n", 2), (b"\xef\xbb\xbfmeet07\r\n", 0)):
        shown = CliRunner().invoke(main, ["explain", "-c", SHIPPED, "-"], input=line)
        assert shown.exit_code == code
        assert ("the request is not UTF-8 text" in shown.output) == bool(code)


def test_an_alias_with_blanks_needs_the_endpoint() -> None:
    shown = explained("-c", SHIPPED, "desk one", "--endpoint", "service_configuration")
    assert shown["request"]["local_alias"] == "desk one"
