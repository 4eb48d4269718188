"""What is valid and probably not meant: empty placeholders, and lists of all values."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from tests.support import installed

Warnings = Callable[[Sequence[dict[str, Any]]], list[str]]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("X {alias}", "{alias} is always empty: these requests have no alias"),
        ("X {alias.user | upper}", "is always empty: these requests have no alias"),
        ("X {idp_attributes.group}", "is always empty: these requests have no idp_attributes"),
        ("Team {1} of {local_alias.host}", ""),
        ("100 %", ""),
    ],
)
def test_a_placeholder_that_is_never_filled_is_a_warning(
    warnings: Warnings, name: str, says: str
) -> None:
    written = {
        "name": "r",
        "endpoint": "service_configuration",
        "when": {"local_alias": {"glob": "team-*"}},
        "then": {"result": {"name": name}},
    }
    found = warnings([written])
    assert any(says in text for text in found) if says else not found, found


@pytest.mark.parametrize("query", ["", "/members", "SELECT 1 FROM members"])
def test_a_list_by_key_that_asks_the_same_for_each_value_is_refused(query: str) -> None:
    """Each caller would be in the list, and a rule that rejects all others would reject no one."""
    rule = {
        "name": "r",
        "endpoint": "service_configuration",
        "when": {"remote_alias": {"not_in_source": "members"}},
        "then": "reject",
    }
    source = {"driver": "http", "url": "https://people.example.com"}
    members = {"source": "d", "by_key": True, "query": query}
    document = {
        "sources": {"d": source},
        "plugins": {"rules": {"settings": {"rules": [rule], "sources": {"members": members}}}},
    }
    with pytest.raises(ConfigError, match="asks the same for each value") as refused:
        build_policy(from_document(document, Path("config.toml")), available=installed.plugins())
    assert "plugins.rules.settings.sources.members.query" in str(refused.value)
