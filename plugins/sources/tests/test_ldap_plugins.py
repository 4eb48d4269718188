"""Rooms and people in a real slapd, asked for through the plugins."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import Continue, DirectoryInformationRequest, Request, ServiceConfigurationRequest
from pexpolicy.testing import decide, make_policy
from pexpolicy_directory.plugin import PhoneBook
from pexpolicy_rooms.plugin import Rooms
from pexpolicy_sources.ldap import LdapSettings, LdapSource
from tests.support import programs, slapd

pytestmark = programs.needs_compiled("python-ldap")

ENTRIES = {
    f"uid=clinic,{slapd.BASE}": slapd.person(
        "clinic", cn="Clinic", proxyAddresses=["Clinic@Example.com", "ward"], employeeNumber="0482"
    ),
    f"uid=anna,{slapd.BASE}": slapd.person(
        "anna", cn=["Anna Ødegård", "Vik"], mail="Anna@example.com", ou=["Ward", "Surgery"]
    ),
    f"uid=robert,{slapd.BASE}": slapd.person("robert", cn="Robert", mail="r@example.com", ou="x"),
    f"uid=broken,{slapd.BASE}": slapd.person("broken", cn="Broken", ou="x", mail="@"),
}


@pytest.fixture(scope="module")
def people() -> Iterator[slapd.Server]:
    with slapd.Server.running(ENTRIES) as server:
        yield server


@asynccontextmanager
async def serving(
    server: slapd.Server, name: str, plugin: type, **settings: Any
) -> AsyncIterator[Any]:
    """Yield what asks a plugin for its decision."""
    async with LdapSource(LdapSettings.model_validate(server.settings())) as source:
        table = {"settings": {"source": source, **settings}}
        policy = make_policy({name: plugin}, config={"plugins": {name: table}})
        async with policy.serving():

            async def ask(kind: type[Request], params: Mapping[str, str], *path: str) -> Any:
                return (await decide(policy, kind(MultiDict(params), *path))).decision

            yield ask


async def test_a_room_is_found_by_each_of_its_aliases(people: slapd.Server) -> None:
    query = "(uid=clinic) aliases=proxyAddresses name=cn pin=employeeNumber"
    async with serving(people, "rooms", Rooms, query=query) as ask:
        for alias in ("sip:clinic@example.com", "CLINIC@EXAMPLE.COM", "ward"):
            params = {"local_alias": alias, "call_direction": "dial_in"}
            room = await ask(ServiceConfigurationRequest, params)
            assert (room.name, room.pin) == ("Clinic", "0482")
        params = {"local_alias": "*", "call_direction": "dial_in"}
        assert type(await ask(ServiceConfigurationRequest, params)) is Continue


async def test_people_are_found_by_their_names_and_rows_with_errors_left_out(
    people: slapd.Server, caplog: pytest.LogCaptureFixture
) -> None:
    query = "(|(ou=*)(uid=none)) alias=mail name=cn username=uid keywords=ou"
    own = [{"alias": "porter", "name": "Porter"}]
    async with serving(people, "directory", PhoneBook, query=query, entries=own) as ask:

        async def found(text: str) -> list[str]:
            answer = await ask(DirectoryInformationRequest, {"q": text})
            return [entry.description for entry in getattr(answer, "entries", ())]

        assert await found("odegard") == ["Anna Ødegård"]
        assert await found("vik") == await found("surgery") == ["Anna Ødegård"]
        assert await found("porter") == ["Porter"]
        assert await found("broken") == []
    assert any("entries are left out" in message for message in caplog.messages)
