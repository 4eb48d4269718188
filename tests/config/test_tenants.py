"""Tenants are found by tag and alias, in constant time, and mistakes in their tables are named."""

import time
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import PluginSettings, SettingsError, Tenants
from pexpolicy.config.loader import from_document
from pexpolicy.config.schema.plugins import TenantTable
from pexpolicy.config.settings import ConfigError
from tests.support.fake_plugins import settings

TABLES = {
    "acme": {"tag": "acme", "aliases": ["*@acme.example.com", "Board@bolt.example.com"]},
    "bolt": {"aliases": ["*@bolt.example.com", "b-*"]},
    "labs": {"aliases": ["8*@acme.example.com", "x*y*z@labs.example.com"]},
    "rest": {"tag": "r&d", "aliases": ["*"]},
}


def tenants(tables: dict[str, Any]) -> Tenants:
    return Tenants({name: TenantTable(**table) for name, table in tables.items()})


@pytest.mark.parametrize(
    ("alias", "tag", "expected"),
    [
        ("sip:Room@ACME.example.com;transport=tls", None, "acme"),
        ("812@acme.example.com", "", "labs"),
        ("sip:board@bolt.example.com:5061", "other", "acme"),
        ("desk@bolt.example.com", None, "bolt"),
        ("b-17", None, "bolt"),
        ("x1y2z@labs.example.com", None, "labs"),
        ("xz@labs.example.com", None, "rest"),
        ("xyz@labs.example.com", None, "labs"),
        ("@acme.example.com", None, "acme"),
        ("acme.example.com", None, "rest"),
        ("*@bolt.example.com", None, "bolt"),
        ("desk@bolt.example.com", "acme", "acme"),
        ("desk@bolt.example.com", "m=7&acme&c=1", "acme"),
        ("desk@bolt.example.com", "t=labs&m=7", "labs"),
        ("desk@bolt.example.com", "t=acme", "bolt"),
        ("desk@bolt.example.com", "r&d", "rest"),
        ("", None, "rest"),
    ],
)
def test_the_tag_comes_first_and_then_the_longest_alias(
    alias: str, tag: str | None, expected: str
) -> None:
    assert tenants(TABLES).of(alias, tag) == expected


def test_nobody_has_another_alias() -> None:
    assert tenants({"acme": TABLES["acme"]}).of("desk@bolt.example.com", "t=bolt") is None


def test_ten_thousand_tenants_take_no_longer_than_ten() -> None:
    def seconds(count: int) -> float:
        made = tenants(
            {f"t{n}": {"aliases": [f"8*@{n}.example.com", f"*@t{n}.com"]} for n in range(count)}
        )
        began = time.process_time()
        for n in range(2_000):
            assert made.of(f"812345678@{n % count}.example.com") == f"t{n % count}"
            assert made.of("room@elsewhere.example.com") is None
        return time.process_time() - began

    assert min(seconds(10_000) for _ in range(3)) < 5 * min(seconds(10) for _ in range(3))


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"a": {"tag": "x"}, "b": {"tag": "x"}}, "tenants.b.tag: 'x' is the tag of tenant a too"),
        ({"a": {}, "b": {"tag": "t=a"}}, "tenants.b.tag: 't=a' is the tag of tenant a too"),
        (
            {"a": {"aliases": ["*@A.example"]}, "b": {"aliases": ["x", "*@a.example"]}},
            "tenants.b.aliases[1]: '*@a.example' is an alias of tenant a too",
        ),
        ({"a": {"aliases": ["sip:*@a.example"]}}, "'sip:*@a.example' matches no alias"),
        ({"a": {"aliases": ["@a.example"]}}, "must be an alias"),
        ({"a": {"alias": ["*"]}}, "tenants.a.alias"),
        ({"a/b": {}}, "tenants"),
    ],
)
def test_mistakes_are_named(tables: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_document({"tenants": tables}, Path("config.toml"))
    assert problem in str(caught.value)


class Settings(PluginSettings):
    tenants: dict[str, TenantTable] = {}


def known(own: dict[str, Any]) -> Tenants:
    given = Settings.model_validate({"tenants": own}, context={"tenants": tenants(TABLES)})
    return Tenants.known(given, given.tenants)


def test_a_plugin_adds_to_a_tenant_or_has_one_of_its_own() -> None:
    found = known({"acme": {}, "own": {"aliases": ["*@own.example.com"]}})
    assert [*found] == ["acme", "bolt", "labs", "rest", "own"]
    assert (found.of("a@own.example.com"), found.tag("own")) == ("own", "t=own")
    assert [*Tenants.known(Settings())] == []


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"acmee": {}}, "acmee: there is no table [tenants.acmee]: write one, or tag or aliases"),
        ({"acme": {"tag": "a"}}, "acme.tag: [tenants.acme] has the tag and the aliases"),
        ({"own": {"tag": "acme"}}, "own.tag: 'acme' is the tag of tenant acme too"),
    ],
)
def test_mistakes_in_the_table_of_a_plugin_are_named(own: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        known(own)
    assert problem in str(caught.value)


def test_the_tenants_are_part_of_the_policy_hash() -> None:
    tables: list[dict[str, Any]] = [{}, {"a": {}}, {"b": {}}]
    hashes = {settings(tenants=one).tables_digest for one in tables}
    assert len(hashes) == 3
