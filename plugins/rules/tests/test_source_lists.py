"""Lists of sources in conditions, with a real database and real files."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import Outcome, Request, ServiceConfigurationRequest
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.request import annotations_of, enable_notes
from pexpolicy.testing import decide, make_policy
from pexpolicy.testing.coverage import Coverage
from pexpolicy_rules import Rules
from pexpolicy_sources.file import FileSettings, FileSource
from pexpolicy_sources.sql import SqlSettings, SqlSource

SNAPSHOT = {"query": "SELECT alias FROM callers"}
KNOWN: dict[str, Any] = {"remote_alias": {"in_source": "callers"}}
BY_KEY = {"query": "SELECT 1 FROM callers WHERE lower(alias) = :value", "by_key": True}


def fill(path: Path, *callers: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS callers (alias, name)")
        database.execute("DELETE FROM callers")
        database.executemany("INSERT INTO callers VALUES (?, 'x')", [(one,) for one in callers])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    fill(tmp_path / "callers.sqlite", "Ada@Example.com", "bob@example.com")
    return tmp_path / "callers.sqlite"


def rule(**when: Any) -> dict[str, Any]:
    return {"name": "known", "endpoint": "service_configuration", "when": when, "then": "reject"}


Ask = Callable[..., Any]


@asynccontextmanager
async def serving(
    path: Path, table: dict[str, Any], *rules: dict[str, Any], **limits: Any
) -> AsyncIterator[Ask]:
    source = SqlSource(SqlSettings.model_validate({"path": str(path), **limits}))
    settings = {"sources": {"callers": {"source": source, **table}}, "rules": list(rules)}
    async with source:
        policy = make_policy(
            {"rules": Rules}, config={"plugins": {"rules": {"settings": settings}}}
        )
        async with policy.serving():

            async def ask(request: Request | None = None, **params: str) -> Outcome:
                request = request or ServiceConfigurationRequest(MultiDict(params))
                return await decide(policy, request)

            yield ask


@pytest.mark.parametrize("table", [SNAPSHOT, BY_KEY])
async def test_an_alias_is_found_in_the_source(database: Path, table: dict[str, Any]) -> None:
    async with serving(database, table, rule(remote_alias={"in_source": "callers"})) as ask:
        for alias in ("sip:ADA@example.com;transport=tls", "bob@example.com"):
            assert (await ask(remote_alias=alias)).decision.action == "reject"
        for alias in ("eve@example.com", "' OR 1=1 --", ""):
            assert (await ask(remote_alias=alias)).decision.action == "continue"
        noted = annotations_of((await ask(remote_alias="bob@example.com")).request)
        assert noted is not None
        age = noted.by_plugin["rules"]["source_age"].value
        assert isinstance(age, float)


@pytest.mark.parametrize("table", [SNAPSHOT, BY_KEY])
async def test_what_is_not_in_the_source(database: Path, table: dict[str, Any]) -> None:
    unknown = rule(remote_alias={"not_in_source": "callers", "exists": True})
    async with serving(database, table, unknown) as ask:
        assert (await ask(remote_alias="eve@example.com")).decision.action == "reject"
        assert (await ask(remote_alias="bob@example.com")).decision.action == "continue"
        assert (await ask(remote_alias="")).decision.action == "continue"


async def test_several_values_and_other_text(database: Path) -> None:
    fill(database, "Staff", "Board")
    every = rule(params={"groups": {"in_source": "callers", "values": "all"}})
    async with serving(database, SNAPSHOT, every) as ask:

        async def action(*groups: str) -> str:
            params = MultiDict([("groups", group) for group in groups])
            found: str = (await ask(ServiceConfigurationRequest(params))).decision.action
            return found

        assert await action("STAFF", "board") == "reject"
        assert await action("staff", "guests") == "continue"
        assert await action() == "continue"


async def test_each_of_several_values_of_a_column_is_in_the_list(tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text('[{"mail": ["ada@example.com", "ada@old.example"]}]')
    source = FileSource(FileSettings.model_validate({"path": str(tmp_path / "people.json")}))
    settings = {
        "sources": {"people": {"source": source, "column": "mail"}},
        "rules": [rule(remote_alias={"in_source": "people"})],
    }
    async with source:
        config = {"plugins": {"rules": {"settings": settings}}}
        policy = make_policy({"rules": Rules}, config=config)
        async with policy.serving():
            for alias in ("ada@example.com", "sip:Ada@old.example"):
                request = ServiceConfigurationRequest(MultiDict(remote_alias=alias))
                assert (await decide(policy, request)).decision.action == "reject"


@pytest.mark.parametrize("table", [SNAPSHOT, BY_KEY])
async def test_one_list_is_for_aliases_and_for_other_text(
    database: Path, table: dict[str, Any]
) -> None:
    fill(database, "sip:Ada@example.com", "acme")
    rules = [
        {**rule(remote_alias={"in_source": "callers"}), "name": "caller"},
        {**rule(vendor={"in_source": "callers"}), "name": "vendor"},
    ]
    async with serving(database, table, *rules) as ask:
        assert (await ask(vendor="acme")).decision.action == "reject"
        assert (await ask(vendor="other", remote_alias="acme")).decision.action == "reject"
        assert (await ask(vendor="other", remote_alias="eve")).decision.action == "continue"
        found = await ask(vendor="ada@example.com", remote_alias="ADA@example.com")
        assert (found.decision.action == "reject") is (table is SNAPSHOT)


async def test_only_requests_that_match_the_rest_ask_the_source(database: Path) -> None:
    asking = rule(remote_alias={"in_source": "callers"}, protocol="sip", vendor="x")
    async with serving(database, {**BY_KEY, "query": "SELECT broken, :value"}, asking) as ask:
        assert (await ask(remote_alias="a", protocol="h323")).steps[0].outcome == "abstained"
        assert (await ask(protocol="sip", vendor="x")).steps[0].outcome == "abstained"
        failed = (await ask(remote_alias="a", protocol="sip", vendor="x")).steps[0]
        assert failed.outcome == "failed"
        assert "no such column: broken" in failed.detail


async def test_rules_ask_until_one_matches(database: Path) -> None:
    rules = [
        {**rule(remote_alias={"in_source": "callers"}), "name": "caller"},
        {**rule(local_alias={"in_source": "callers"}), "name": "called"},
    ]
    async with serving(database, BY_KEY, *rules) as ask:
        outcome = await ask(remote_alias="eve@example.com", local_alias="ada@example.com")
        assert outcome.decision.reason == "rule called"
        request = ServiceConfigurationRequest(MultiDict(remote_alias="e", local_alias="f"))
        notes = enable_notes(request)
        await ask(request)
        assert notes == [
            "rule 'caller': remote_alias.in_source = 'callers': no match for 'e'",
            "rule 'called': local_alias.in_source = 'callers': no match for 'f'",
        ]


async def test_a_source_that_is_gone_fails_the_step_and_comes_back(database: Path) -> None:
    table = {**BY_KEY}
    limits = {"refresh_after": 0, "max_age": 0}
    async with serving(
        database, table, rule(remote_alias={"in_source": "callers"}), **limits
    ) as ask:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("ALTER TABLE callers RENAME TO away")
        assert (await ask(remote_alias="bob@example.com")).steps[0].outcome == "failed"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("ALTER TABLE away RENAME TO callers")
        assert (await ask(remote_alias="bob@example.com")).decision.action == "reject"


@pytest.mark.parametrize(
    ("table", "when", "problem"),
    [
        (SNAPSHOT, {"vendor": {"in_source": "caller"}}, "there is no list 'caller'"),
        ({**BY_KEY, "every": 5}, {}, "every is for a list of all rows, and by_key asks for each"),
        (
            {**BY_KEY, "query": "SELECT :other, :value"},
            {"vendor": {"in_source": "callers"}},
            ":other",
        ),
    ],
)
def test_errors_name_their_key(
    database: Path, table: dict[str, Any], when: dict[str, Any], problem: str
) -> None:
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = {"sources": {"callers": {"source": source, **table}}, "rules": [rule(**when)]}
    with pytest.raises(ConfigError) as refused:
        make_policy({"rules": Rules}, config={"plugins": {"rules": {"settings": settings}}})
    assert problem in str(refused.value)


async def test_a_snapshot_needs_its_column(database: Path) -> None:
    with pytest.raises(ConfigError, match="has the columns alias, name: write one of them as"):
        async with serving(
            database, {"query": "SELECT * FROM callers"}, rule(vendor={"in_source": "callers"})
        ):
            pass


async def test_a_source_is_asked_last_of_several_alternatives(database: Path) -> None:
    nested = {"none": [{"vendor": "Acme"}], "remote_alias": {"in_source": "callers"}}
    either = rule(any=[nested, {"any": [{"vendor": "Cisco"}]}])
    async with serving(database, {**BY_KEY, "query": "SELECT :value FROM absent"}, either) as ask:
        outcome = await ask(remote_alias="eve@example.com", vendor="Cisco")
        assert outcome.decision.action == "reject"
        assert (await ask(remote_alias="eve@example.com")).steps[0].outcome == "failed"


ROOM, CALLER = {"regex": r"room-(\d+)"}, {"regex": r"(\w+)@.*"}


@pytest.mark.parametrize("table", [SNAPSHOT, BY_KEY])
@pytest.mark.parametrize(
    ("when", "tag"),
    [
        ({"any": [{"local_alias": ROOM, **KNOWN}, {"local_alias": {"regex": "(.+)"}}]}, "42"),
        ({"any": [{"local_alias": {"regex": "(.+)"}}, {"local_alias": ROOM, **KNOWN}]}, "room-42"),
        ({"all": [{"local_alias": ROOM, **KNOWN}], "any": [{"remote_alias": CALLER}]}, "42"),
    ],
)
async def test_a_source_changes_no_number_of_a_group(
    database: Path, table: dict[str, Any], when: dict[str, Any], tag: str
) -> None:
    then = {"name": "Room", "service_type": "conference", "service_tag": "{1}"}
    numbered = {**rule(**when), "then": {"action": "continue", "result": then}}
    async with serving(database, table, numbered) as ask:
        outcome = await ask(local_alias="room-42", remote_alias="bob@example.com")
        assert outcome.decision.set_fields()["service_tag"] == tag, outcome.steps


@pytest.mark.parametrize("table", [SNAPSHOT, BY_KEY])
async def test_an_alternative_with_a_source_is_covered(
    database: Path, table: dict[str, Any]
) -> None:
    either = rule(any=[{"remote_alias": {"in_source": "callers"}}, {"vendor": "Cisco"}])
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = {"sources": {"callers": {"source": source, **table}}, "rules": [either]}
    async with source:
        config = {"plugins": {"rules": {"settings": settings}}}
        policy = make_policy({"rules": Rules}, config=config)
        async with policy.serving():
            coverage = Coverage(policy)
            for alias, vendor in (("bob@example.com", ""), ("eve@example.com", "Cisco")):
                params = MultiDict(remote_alias=alias, vendor=vendor)
                coverage.add(await decide(policy, ServiceConfigurationRequest(params)))
    used = {
        item.name: count for item, count in coverage.used.items() if item.kind == "branch" and count
    }
    assert used == {
        "known: remote_alias.in_source = 'callers'": 1,
        "known: vendor.equals = 'Cisco'": 1,
    }
