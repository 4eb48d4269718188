"""Rules with several mistakes: each is named that can be told, and nothing that is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Problems = Callable[..., list[str]]


def rules_with_names(*rules: Any) -> list[dict[str, Any]]:
    shape = {"endpoint": "service_configuration", "then": "reject"}
    return [{"name": f"r{number}", **shape, **each} for number, each in enumerate(rules)]


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        (
            {"result": {"name": "{foo}", "pin": 1234, "nam": "x", "service_tag": "{1}"}},
            ["result.name", "result.service_tag", "result.pin", "result.nam"],
        ),
        (
            {"result": {"name": 5, "locked": 1, "pin": "1"}},
            ["result.name", "result.locked", "result.pin"],
        ),
        ({"result": {"nam": "x", "pin": 1234}}, ["result.pin", "result.name"]),
        ({"result": {"nme": "x", "na": "y"}}, ["result.name", "result.na"]),
        ({"result": {"name": "X", "guest_pin": "{a}", "x": 1}}, ["result.guest_pin", "result.x"]),
        ({"rsult": {}, "result": {"name": "X", "pin": 1234}}, ["rsult", "result.pin"]),
    ],
)
def test_all_mistakes_of_a_decision_are_named_at_once(
    problems: Problems, written: Any, keys: list[str]
) -> None:
    messages = problems({"rules": rules_with_names({"then": written})})
    assert sorted(line.split(": ")[0] for line in messages) == sorted(
        f"rules[0].then.{key}" for key in keys
    ), messages


def test_a_mistake_of_one_kind_hides_none_of_another(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[[rules]]\nname = 'r0'\nrule = 1\n[[rules]]\nname = ''\n")
    messages = problems(
        {
            "rules": rules_with_names(
                {"when": {"local_alias": {"regexx": "x"}}, "then": {"result": {"name": "{foo}"}}},
                {"name": "r0", "endpont": "x", "then": "reject"},
                {"when": {"vendor": 3}, "then": {"result": {"name": "X", "pin": 1234}}},
            ),
            "files": ["a.toml", "b.toml"],
        },
        tmp_path,
    )
    assert [line.split(": ")[0] for line in messages[:5]] == [
        "rules[0].when.local_alias.regexx",
        "rules[0].then.result.name",
        "rules[1].endpont",
        "rules[1].name",
        "rules[2].when.vendor",
    ]
    assert messages[5].startswith("rules[2].then.result.pin: ")
    assert [line.split(": ")[2] for line in messages[6:-1]].count("name") == 2
    assert messages[-1] == "files: there is no file b.toml"


@pytest.mark.parametrize("regex", ["vmr-(?P<room>[0-9]+)(x)(", "(?<room>)(((((x))))"])
def test_what_a_condition_may_capture_is_not_complained_of(problems: Problems, regex: str) -> None:
    then = {"result": {"name": "{1} {room}"}}
    (text,) = problems(
        {"rules": rules_with_names({"when": {"vendor": {"regex": regex}}, "then": then})}
    )
    assert text.startswith("rules[0].when.vendor.regex: ")
