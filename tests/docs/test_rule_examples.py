"""The shipped rule files: each passes check and decides its example requests as documented."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pexpolicy import Request
from pexpolicy.builder import policy_from
from pexpolicy.config.loader import load
from pexpolicy.testing import assert_case, decide_sync, load_cases, make_request
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


@pytest.mark.parametrize(
    ("moment", "theme"),
    [
        ("2026-01-15 08:00", None),
        ("2026-01-15 16:59", None),
        ("2026-01-15 17:00", "After hours"),
        ("2026-01-15 03:00", "After hours"),
        ("2026-01-17 12:00", "After hours"),
    ],
)
def test_the_reception_has_another_theme_after_hours(moment: str, theme: str | None) -> None:
    plugin = rules_of(EXAMPLES / "rules" / "after_hours.toml", moment)
    request = make_request("service_configuration", local_alias="reception@example.com")
    assert decide_sync(plugin, request).decision.set_fields().get("ivr_theme_name") == theme


def test_the_configuration_of_the_examples_has_each_of_their_files() -> None:
    config = load(EXAMPLES / "config.toml")
    files = config.plugins["rules"].settings["files"]
    assert sorted(files) == [f"rules/{file.name}" for file in FILES]


@pytest.mark.parametrize(
    "request_",
    [
        make_request(
            "service_configuration", local_alias="reception@example.com", vendor="sipvicious"
        ),
        make_request(
            "participant_properties",
            shape="sip",
            service_tag="secret",
            remote_alias="sip:+4712345678@gateway.example.com",
        ),
        make_request(
            "participant_properties",
            service_tag="secret",
            idp_attributes={"groups": ["IT Support"]},
        ),
    ],
    ids=["a scanner at the reception", "a telephone in a secret room", "a Host in a secret room"],
)
def test_no_rule_admits_a_caller_that_another_refuses(together: Rules, request_: Request) -> None:
    assert decide_sync(together, request_).decision.action == "reject"


def test_all_examples_together_are_a_configuration_without_findings() -> None:
    policy = policy_from(EXAMPLES / "config.toml")
    assert [str(item) for item in policy.warnings] == []
    policy.close()
