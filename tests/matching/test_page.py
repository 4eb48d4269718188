"""The page docs/conditions.md: complete tables, valid rules, true limits."""

import re
import tomllib
from pathlib import Path

import pytest

from pexpolicy.matching import subject
from pexpolicy.matching.patterns import MAX_PROGRAM, MAX_WORK
from pexpolicy.matching.time_window import TimeOperators
from pexpolicy.matching.when import (
    FlagOperators,
    MultiValueOperators,
    NumberOperators,
    TextOperators,
)
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings
from tests.support import doc_pages
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "conditions.md"
ROWS = list(doc_pages.rows(PAGE))
OPTIONS = {"case_sensitive", "values"}


def operators(table: type[TextOperators | NumberOperators | FlagOperators]) -> set[str]:
    return {name for name in table.model_fields if not name.startswith("not_")} - OPTIONS


def test_every_operator_is_explained_with_what_it_is_for() -> None:
    explained = {row[0]: row[2] for row in ROWS if len(row) == 3}
    assert explained.keys() == operators(TextOperators)
    for name, text in explained.items():
        kinds: dict[str, type[TextOperators | NumberOperators | FlagOperators]] = {
            "text": TextOperators,
            "numbers": NumberOperators,
            "true and false": FlagOperators,
        }
        there = {kind for kind, table in kinds.items() if name in operators(table)}
        assert there == (set(kinds) if text == "all" else {k for k in kinds if k in text})


def test_each_operator_but_one_has_a_negation() -> None:
    for table in (TextOperators, NumberOperators, FlagOperators, MultiValueOperators):
        negated = {name[4:] for name in table.model_fields if name.startswith("not_")}
        assert negated == operators(table) - {"exists"}


def test_every_key_except_parameters_is_explained() -> None:
    explained = {key.strip() for row in ROWS if len(row) == 2 for key in row[0].split(",")}
    assert {"all", "any", "none", "time", "peer", "params.NAME"} <= explained
    assert set(TimeOperators.model_fields) <= explained
    for key in explained - {"all", "any", "none", "time", *TimeOperators.model_fields}:
        assert subject(key).key == key


@pytest.mark.parametrize("text", [t for lang, t in doc_pages.blocks(PAGE) if lang == "toml"])
def test_a_rule_that_is_shown_can_be_used(text: str) -> None:
    rules = Rules(Settings.model_validate(tomllib.loads(text)))
    assert list(rules.config_warnings()) == []


def test_the_limits_of_patterns_are_those_of_the_page() -> None:
    text = PAGE.read_text()
    assert f"{MAX_PROGRAM:,} instructions" in text
    assert f"at most {MAX_WORK:,}" in text
    assert MAX_WORK // MAX_PROGRAM == 250


def test_the_readme_shows_the_example_files_that_there_are() -> None:
    readme = ROOT / "plugins" / "rules" / "README.md"
    examples = readme.read_text(encoding="utf-8").partition("## Examples")[2].partition("\n## ")[0]
    shown = set(re.findall(r"`(\w+\.toml)`", examples))
    assert shown == {file.name for file in Path(ROOT, "examples", "rules", "rules").iterdir()}
