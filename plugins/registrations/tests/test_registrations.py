"""Which devices may register, with which credentials, and what becomes of other aliases."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy import RegistrationAliasRequest, SettingsError
from pexpolicy.testing import decide, make_policy
from pexpolicy_registrations.plugin import MAX_ADDRESSES, Bursts, Device, Registrations, Settings
from tests.support.virtual_time import clock, virtual

DEVICES: list[dict[str, Any]] = [
    {"alias": "Desk@Example.com", "username": "desk", "password": "horse", "protocols": ["sip"]},
    {"alias": "board@example.com"},
    {"alias": "anna@example.com", "sso": True},
    {"alias": "both@example.com", "username": "b", "password": "staple", "sso": True},
]

LISTED = [Device.model_validate(device) for device in DEVICES]


async def asked(settings: dict[str, Any], alias: str, **params: str) -> Any:
    policy = make_policy(
        {"registrations": Registrations},
        config={"plugins": {"registrations": {"settings": settings}}},
    )
    async with policy.serving():
        request = RegistrationAliasRequest(MultiDict(params), alias)
        return (await decide(policy, request)).decision


@pytest.mark.parametrize(
    ("alias", "auth", "protocol", "action", "username"),
    [
        ("sip:desk@example.com", "credentials", "sip", "continue", "desk"),
        ("desk@example.com", "", "sip", "continue", "desk"),
        ("desk@example.com", "sso", "sip", "reject", None),
        ("desk@example.com", "credentials", "h323", "reject", None),
        ("desk@example.com", "credentials", "", "reject", None),
        ("board@example.com", "credentials", "h323", "continue", None),
        ("board@example.com", "sso", "webrtc", "continue", None),
        ("anna@example.com", "sso", "webrtc", "continue", None),
        ("anna@example.com", "credentials", "webrtc", "reject", None),
        ("both@example.com", "sso", "webrtc", "continue", None),
        ("both@example.com", "credentials", "webrtc", "continue", "b"),
        ("other@example.com", "credentials", "sip", "reject", None),
    ],
)
async def test_a_device_gets_the_answer_for_its_protocol_and_authentication(
    alias: str, auth: str, protocol: str, action: str, username: str | None
) -> None:
    decision = await asked({"devices": DEVICES}, alias, auth_type=auth, protocol=protocol)
    assert decision.action == action
    assert decision.set_fields().get("username") == username


async def test_other_aliases_may_be_left_to_the_next_plugin() -> None:
    decision = await asked({"devices": DEVICES, "otherwise": "abstain"}, "other@example.com")
    assert decision.reason is None
    assert decision.action == "continue"


def test_devices_come_from_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("alias,username,password,protocols,sso\nDesk@Example.com,d,0042,sip|h323,\n")
    path.chmod(0o600)
    plugin = Registrations(Settings(csv=path))
    request = RegistrationAliasRequest(MultiDict(protocol="h323"), "desk@example.com")
    answer = asyncio.run(plugin.registration_alias(request))
    assert answer is not None
    assert answer.set_fields() == {"username": "d", "password": "0042"}
    assert list(plugin.config_warnings()) == []


def test_mistakes_of_several_lines_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("alias,username,password\na@b,,0042\nc@d,,\nC@D,,\n")
    with pytest.raises(SettingsError) as refused:
        Registrations(Settings(csv=path))
    said = [str(problem) for problem in refused.value.problems]
    assert ["line 2" in said[0] or "line 2" in said[1], len(said)] == [True, 2], said


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"devices": [{"alias": "a@b", "password": "x"}]}, "username is missing"),
        ({"devices": [{"alias": "sip:"}]}, "is not an alias"),
        ({"devices": [{"alias": "a@b"}, {"alias": "A@B"}]}, "a device with the alias a@b already"),
        ({"devices": [], "delay": 1.0}, "not shorter than the timeout"),
        ({"devices": [{"alias": "a@b", "protocols": ["rtmp"]}]}, "protocols"),
    ],
)
async def test_a_mistake_is_reported_without_a_password(
    settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(Exception, match=says) as refused:
        await asked(settings, "a@b")
    assert "horse" not in str(refused.value)


@virtual
async def test_bursts_of_unknown_aliases_are_slowed_and_known_devices_are_not() -> None:
    settings = Settings(devices=LISTED, burst=2, delay=0.2)
    plugin = Registrations(settings)

    async def seconds(alias: str, address: str) -> float:
        params = MultiDict(remote_address=address, protocol="sip")
        began = clock()
        await plugin.registration_alias(RegistrationAliasRequest(params, alias))
        return clock() - began

    quick = [await seconds(f"x{n}@example.com", "192.0.2.1") for n in range(2)]
    slow = await seconds("x@example.com", "192.0.2.1")
    known = await seconds("desk@example.com", "192.0.2.1")
    other = await seconds("x@example.com", "192.0.2.2")
    assert slow == pytest.approx(0.2)
    assert (*quick, known, other) == (0.0,) * 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=60))
def test_only_unknown_aliases_of_one_address_within_a_minute_count(
    calls: list[tuple[str, float]],
) -> None:
    now = 0.0
    bursts = Bursts(3, lambda: now)
    windows: dict[str, tuple[float, int]] = {}
    for address, pause in calls:
        now += pause
        began, count = windows.get(address, (now, 0))
        if now - began >= 60:
            began, count = now, 0
        assert bursts.exceeds(address) == (count >= 3)
        windows[address] = (began, count + 1)


def test_the_memory_of_addresses_is_bounded() -> None:
    bursts = Bursts(1)
    for number in range(MAX_ADDRESSES + 10):
        bursts.exceeds(str(number))
    assert not bursts.exceeds("0"), "the oldest is forgotten"
    assert bursts.exceeds(str(MAX_ADDRESSES))


@pytest.mark.parametrize("alias", ["a@x or b@x", "a@x,b@x", "desk 1@x", "mailto:a@x", "1,2E+05"])
def test_an_alias_that_no_device_has_is_a_warning(alias: str) -> None:
    devices = [Device(alias="sip:desk@example.com;transport=tls"), Device(alias=alias)]
    (warning,) = Registrations(Settings(devices=devices)).config_warnings()
    assert warning.key == ("devices", 1, "alias")


def test_an_empty_list_is_a_warning() -> None:
    (warning,) = Registrations(Settings()).config_warnings()
    assert "no device can register" in warning.text
    with pytest.raises(SettingsError):
        Registrations(Settings(devices=[Device(alias="@")]))
