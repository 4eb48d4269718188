"""The shipped rule files: each passes check and decides its example requests as documented."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.config.loader import load
from pexpolicy.testing import assert_case, decide_sync, load_cases
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples" / "rules"
FILES = sorted((EXAMPLES / "rules").glob("*.toml"))

ALL_CASES = [
    pytest.param(case, id=f"{file.stem}-{case}")
    for file in sorted((EXAMPLES / "cases").glob("*.toml"))
    for case in load_cases(file)
]


def rules_of(file: Path, moment: str = "2026-01-15 12:00") -> Rules:
    now = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo("Europe/Oslo")).timestamp()
    settings = Settings.model_validate({"files": [str(file)]}, context={"root": ROOT})
    return Rules(settings, clock=lambda: now)


@pytest.fixture(scope="module")
def together() -> Rules:
    config = load(EXAMPLES / "config.toml")
    written = config.plugins["rules"].settings
    return Rules(Settings.model_validate(written, context={"root": EXAMPLES}))


@pytest.mark.parametrize("case", ALL_CASES)
def test_an_example_request_is_decided_as_the_cases_say(together: Rules, case: object) -> None:
    assert_case(together, case)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_rule_of_an_example_decides_a_request(file: Path) -> None:
    plugin = rules_of(file)
    requests = [case.request for case in load_cases(EXAMPLES / "cases" / file.name)]
    for request in requests:
        assert request is not None
        decide_sync(plugin, request)
    idle = [name for name, counts in plugin.status().items() if counts["hits"] == 0]  # type: ignore[index]
    assert idle in ([], ["Reception after hours"])


def test_the_configuration_of_the_examples_has_each_of_their_files() -> None:
    config = load(EXAMPLES / "config.toml")
    files = config.plugins["rules"].settings["files"]
    assert sorted(files) == [f"rules/{file.name}" for file in FILES]


def test_all_examples_together_are_a_configuration_without_findings() -> None:
    policy = policy_from(EXAMPLES / "config.toml")
    assert [str(item) for item in policy.warnings] == []
    policy.close()
