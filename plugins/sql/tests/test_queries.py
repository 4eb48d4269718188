"""Decisions by queries, over real databases."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pexpolicy import Avatar, Decision, DecisionError, Redirect, Reject
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.contract import NO_EXTRAS
from pexpolicy.testing import ConfigError, Policy, decide, make_policy, make_request
from pexpolicy_sql import SqlQueries
from pexpolicy_sql.decisions import RowDecisions
from tests.support import postgresql

Source = dict[str, Any]
Execute = Callable[[str], None]
TABLES = """
CREATE TABLE lines (alias text PRIMARY KEY, name text, pin text, allow_guests boolean,
    max_callrate_in integer, automatic_participants text, action text, reason text,
    new_alias text);
INSERT INTO lines VALUES ('clinic@example.com', 'Clinic', '0482', true, 512000,
    '[{"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "guest"}]',
    NULL, 'a reason', NULL);
INSERT INTO lines (alias, action, reason) VALUES ('closed', 'reject', 'it is closed');
INSERT INTO lines (alias, action, new_alias) VALUES ('moved', 'redirect', 'sip:new@example.com');
INSERT INTO lines (alias, action) VALUES ('own', 'continue'), ('odd', 'forbid');
INSERT INTO lines (alias, name, pin) VALUES ('wrong', 'Wrong', 'pin');
CREATE TABLE people (alias text PRIMARY KEY, name text, password text);
INSERT INTO people VALUES ('anna@example.com', 'Anna Berg', 'horse'),
    ('bo@example.com', 'Bo Dahl', NULL);
"""
SERVICE = (
    "SELECT name, pin, allow_guests, max_callrate_in, automatic_participants, action, reason,"
    " new_alias FROM lines WHERE alias = :local_alias"
)


def policy_of(source: Source, *, on_error: str = "skip", **queries: str) -> Policy:
    table = {"on_error": on_error, "settings": {"source": "db", **queries}}
    config = {"sources": {"db": source}, "plugins": {"sql": table}}
    return make_policy({"sql": SqlQueries}, config=config)


@asynccontextmanager
async def asking(source: Source, endpoint: str, query: str) -> AsyncIterator[Callable[..., Any]]:
    policy = policy_of(source, on_error="reject", **{endpoint: query})
    async with policy.serving():

        async def ask(**fields: Any) -> Any:
            return await decide(policy, make_request(endpoint, **fields))

        yield ask


async def test_the_columns_of_a_row_are_fields_of_a_service(
    source: Source, execute: Execute
) -> None:
    execute(TABLES)
    async with asking(source, "service_configuration", SERVICE) as ask:
        outcome = await ask(local_alias="sip:Clinic@Example.com:5060")
        service: Decision = outcome.decision
        assert service.set_fields() == {
            "name": "Clinic",
            "service_tag": "",
            "service_type": "conference",
            "pin": "0482",
            "allow_guests": True,
            "max_callrate_in": 512000,
            "automatic_participants": [
                {"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "guest"}
            ],
        }
        assert service.reason == "a reason"
        assert outcome.steps[0].outcome == "decided"
        assert (await ask(local_alias="nobody")).steps[0].outcome == "abstained"


async def test_a_column_names_the_action(source: Source, execute: Execute) -> None:
    execute(TABLES)
    async with asking(source, "service_configuration", SERVICE) as ask:
        assert (await ask(local_alias="closed")).decision == Reject(reason="it is closed")
        moved = (await ask(local_alias="moved")).decision
        assert moved == Redirect(new_alias="sip:new@example.com")
        own = await ask(local_alias="own")
        assert (own.decision.action, own.steps[0].outcome) == ("continue", "decided")
        for alias in ("odd", "wrong"):
            outcome = await ask(local_alias=alias)
            assert (outcome.decision.action, outcome.steps[0].outcome) == ("reject", "invalid")


REQUESTS: dict[str, dict[str, Any]] = {
    "participant_properties": {},
    "media_location": {},
    "participant_avatar": {"alias": "anna@example.com"},
    "directory_information": {"q": "BERG", "limit": "5"},
    "registration_alias": {"alias": "Anna@Example.com", "auth_type": "credentials"},
}


async def test_each_endpoint_has_its_decision(source: Source, execute: Execute) -> None:
    execute(TABLES)
    picture = "47494638376101000100800100000000ffffff2c00000000010001000002024401003b"
    image = f"x'{picture}'" if "path" in source else f"decode('{picture}', 'hex')"
    queries = {
        "participant_properties": "SELECT 'reject' AS action, 'Not here' AS reject_reason",
        "media_location": """SELECT 'Oslo' AS location, '["A", "B"]' AS overflow_locations""",
        "participant_avatar": f"SELECT {image} AS image",
        "directory_information": "SELECT alias, name AS description FROM people"
        " WHERE lower(name) LIKE '%' || lower(:q) || '%' ORDER BY name LIMIT :limit",
        "registration_alias": "SELECT name AS username, password FROM people WHERE alias = :alias"
        " AND :auth_type = 'credentials' AND password IS NOT NULL",
    }
    policy = policy_of(source, on_error="reject", **queries)
    assert not policy.warnings
    async with policy.serving():
        found: dict[str, Any] = {}
        for endpoint, fields in REQUESTS.items():
            outcome = await decide(policy, make_request(endpoint, **fields))
            found[endpoint] = outcome.decision
    assert found["participant_properties"] == Reject(reject_reason="Not here")
    assert found["media_location"].overflow_locations == ["A", "B"]
    assert isinstance(found["participant_avatar"], Avatar)
    (entry,) = found["directory_information"].entries
    assert (entry.alias, entry.description) == ("anna@example.com", "Anna Berg")
    assert found["registration_alias"].password == "horse"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT name, pinn FROM (SELECT 'a' AS name, 'b' AS pinn) AS t", "did you mean 'pin'?"),
        ("SELECT 'a' AS service_tag", "has no column name"),
        ("SELECT 'a' AS name, 'b' AS name", "service_configuration: the query has "),
        ("SELECT 'a' AS name WHERE 'x' = :alias", "no such field; there are"),
        ("SELECT name FROM nowhere", "nowhere"),
        ("SELECT 'a' AS name FROM FROM", "syntax error"),
        ("SELEC 1", "does not begin like a query"),
        (" ", "does not begin like a query"),
        ("SELECT 'a' AS name WHERE 'x' = ':local_alias'", "has :local_alias in quotes"),
    ],
)
def test_a_query_is_checked_when_the_policy_is_built(source: Source, query: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        policy_of(source, service_configuration=query)
    (problem,) = raised.value.problems
    assert str(problem).startswith("plugins.sql.settings.service_configuration")
    assert says in str(problem)


def test_without_the_database_the_check_is_a_warning(
    postgres: postgresql.Server, source: Source
) -> None:
    if "path" in source:
        source = {**source, "path": source["path"] + ".gone"}
        policy = policy_of(source, service_configuration="SELECT 1 AS nothing")
    else:
        with postgres.frozen():
            policy = policy_of(source, service_configuration="SELECT 1 AS nothing")
    (warning,) = (str(w) for w in policy.warnings if "not checked" in str(w))
    assert warning.startswith("plugins.sql.settings.source: the columns of the queries are not")


def test_settings_need_a_query(source: Source) -> None:
    with pytest.raises(ConfigError, match="there is no query: write one for any of service"):
        policy_of(source)


async def test_only_the_endpoints_with_a_query_ask_the_plugin(source: Source) -> None:
    policy = policy_of(source, media_location="SELECT 'Oslo' AS location")
    async with policy.serving():
        for endpoint in ENDPOINTS:
            steps = (await decide(policy, make_request(endpoint))).steps
            asked = [step.plugin for step in steps if step.plugin == "sql"]
            assert len(asked) == (endpoint == "media_location"), endpoint


@settings(max_examples=4, suppress_health_check=[*HealthCheck])
@given(
    texts=st.lists(
        st.text(max_size=40) | st.sampled_from(["' OR '1'='1", "'; DROP TABLE lines; --", "%"]),
        min_size=15,
    )
)
async def test_no_text_of_a_request_is_more_than_a_value(
    source: Source, execute: Execute, texts: list[str]
) -> None:
    execute("CREATE TABLE IF NOT EXISTS lines (alias text PRIMARY KEY, name text)")
    query = "SELECT name FROM lines WHERE alias = :local_alias OR name = :remote_display_name"
    async with asking(source, "service_configuration", query) as ask:
        for text in texts:
            outcome = await ask(local_alias=text, remote_display_name=text)
            assert outcome.steps[0].outcome == "abstained"


def test_an_array_is_no_type_of_a_service() -> None:
    decisions = RowDecisions("service_configuration", NO_EXTRAS)
    with pytest.raises(DecisionError, match="a list is not one of conference"):
        decisions.make([{"name": "Room", "service_type": ["conference"]}])
