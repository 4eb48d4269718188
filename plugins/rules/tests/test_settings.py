"""Mistakes: each is named with its place and with what to write, all of them at once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings

Problems = Callable[..., list[str]]
ROOM = {"result": {"name": "X"}}


def rule(then: Any = "reject", endpoint: Any = "service_configuration", **more: Any) -> Any:
    return {"rules": [{"name": "x", "endpoint": endpoint, "then": then, **more}]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (rule("refuse"), "rules[0].then: should be 'continue', 'reject', 'redirect' or 'abst"),
        (rule({}), 'rules[0].then: is empty; write then = "reject"'),
        (rule({"action": "reject", **ROOM}), "a reject has no result: Infinity would use the"),
        (rule({"action": "redirect"}), 'new_alias and action = "redirect" belong together'),
        (rule({"action": "redirect", "new_alias": "desk"}), "must begin with a scheme such as"),
        (rule({"new_alias": "sip:x@y", **ROOM}), 'new_alias and action = "redirect" belong'),
        (rule({"action": "reject", "reject_reason": "no"}), "is not shown at service_conf"),
        (rule({"action": "continue", "reject_reason": "no"}), 'belongs to action = "reject"'),
        (rule("reject", "media_location"), "media_location cannot reject; write c"),
        (rule("reject", "media_locations"), "rules[0].endpoint: should be 'service_conf"),
        (rule({"action": "redirect", "new_alias": "sip:x@y"}, "media_location"), "cannot redirect"),
        (rule({"result": {}}), "rules[0].then.result.name: is required"),
        (
            rule({"result": {"nmae": "X", "name": "Y"}}),
            "result.nmae: there is no field 'nmae' in Conference; did you mean 'name'?",
        ),
        (rule({"result": {"name": "X", "pin": 1234}}), "rules[0].then.result.pin: "),
        (
            rule({"result": {"name": "X", "service_type": "room"}}),
            "'room' is not one of conference",
        ),
        (rule({"result": {"location": 3}}, "media_location"), "rules[0].then.result.location: "),
        (rule({"result": {"name": "X", "pin": "{remote_alias}x"}}), "rules[0].then.result.pin"),
        (rule({"image": "x.png"}), "service_configuration has no picture"),
        (rule({"image": "x.png"}, "participant_avatar"), "x.png cannot be read: No such file"),
        (rule({"result": {"x": 1}}, "participant_avatar"), "an avatar is a picture; write image"),
        (
            rule({"result": {"name": "X", "reason": "y"}}),
            "rules[0].then.result.reason: is not a field of a result; write it next to result",
        ),
        (rule(when={"local_alias": {"regex": "("}}), "rules[0].when.local_alias.regex: '(' is no"),
        (rule(whne={}), "rules[0].whne: unknown key; did you mean 'when'?"),
        (rule(name=""), "rules[0].name: should have at least 1"),
        ({"rules": [*rule()["rules"], *rule()["rules"]]}, "rules[1].name: there is a rule called"),
        ({"files": ["*.toml"]}, "files: there is no file *.toml"),
        ({"rule": []}, "rule: unknown key; did you mean 'rules'?"),
        (rule({"new_alias": "sip:a@b"}), "new_alias has no effect without an action; write"),
        (rule({"reject_reason": "no"}), 'write action = "reject"'),
        (rule({"image": 5}, "participant_avatar"), "rules[0].then.image: "),
        (rule({"image": "text.png"}, "participant_avatar"), "text.png: the bytes are not a pic"),
        (rule({"image": "pipe.png"}, "participant_avatar"), "cannot be read: it is not a regular"),
    ],
)
def test_a_mistake_is_named_with_its_key(
    problems: Problems, settings: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    messages = problems(settings, tmp_path)
    assert any(message in line for line in messages), messages


def test_a_secret_is_not_repeated(problems: Problems) -> None:
    messages = problems(rule({"result": {"name": "X", "pin": "49x7"}}))
    assert "49x7" not in "".join(messages)


FIRST = "[[rules]]\nname='first'\nendpoint='media_location'\nthen='continue'\n"
FILE = """\
# Rules of the second floor.
[[rules]]
name = "first"
endpoint = "service_configuration"
when.local_alias.prefix = "sip:conf"
then = "reject"

[[rules]]      # the second
name = "second"
endpoint = "service_configuration"
then = { action = "rejct" }

[[rules]]
name = "third"
endpoint = "media_location"
when.vendor = [
    "a",
    3,
]
then = "continue"
"""


def test_a_mistake_in_a_file_is_named_with_its_line(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "floor.toml").write_text(FILE)
    messages = problems({"files": ["floor.toml"]}, tmp_path)
    assert [line.split(": ", 2)[:2] for line in messages] == [
        ["files", "floor.toml line 5"],
        ["files", "floor.toml line 11"],
        ["files", "floor.toml line 16"],
    ]
    assert "leave it out, or write it below raw" in messages[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\nname = first\n", "floor.toml line 2: is not valid TOML: Invalid value"),
        ("[[rule]]\nname = 'x'\n", "floor.toml line 1: 'rule' has no meaning in this file; write"),
        ("rules = 3\n", "floor.toml line 1: must be tables: write each table below"),
        ("[[rules]]\n", "floor.toml line 1: name: is missing"),
        ("rules = [{ name = 'x' }]\n", "floor.toml line 1: endpoint: is missing"),
        ("\udcff", "floor.toml line 1: is not UTF-8 text"),
        (
            "[[rules]]\nname='x'\nendpoint='media_location'\nthen='reject'\n",
            "floor.toml line 4: then: media_location cannot reject",
        ),
        (FIRST, "floor.toml line 2: name: there is a rule called 'first' already in attic.toml"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    problems: Problems, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "floor.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "attic.toml").write_text(FIRST)
    messages = problems({"files": ["*.toml"]}, tmp_path)
    assert any(message in line for line in messages), messages


def test_a_mistake_in_a_file_is_at_its_own_line_and_not_at_a_name_of_the_rule(
    problems: Problems, tmp_path: Path
) -> None:
    (tmp_path / "floor.toml").write_text(
        "[[rules]]\nname = 'a'\nendpoint = 'service_configuration'\n"
        "then.result.service_tag = 'x'\nthen.result.name = 5\n"
        "[[rules]]\nname = 'b'\nendpoint = 'service_configuration'\n"
        "when.any = [\n { local_alias = 'x' },\n { local_alias = { prefix = 'sip:x' } },\n]\n"
        "then = 'reject'\n"
    )
    found = problems({"files": ["floor.toml"]}, tmp_path)
    assert [text.partition(": ")[2].partition(":")[0] for text in found] == [
        "floor.toml line 5",
        "floor.toml line 9",
    ]


def test_a_name_that_infinity_does_not_know_is_refused_with_the_rule(tmp_path: Path) -> None:
    then = "then.result = { name = 'X', ivr_theme_name = 'Nihgt' }"
    (tmp_path / "floor.toml").write_text(
        f"\n[[rules]]\nname = 'x'\nendpoint = 'service_configuration'\n{then}\n"
    )
    document = {
        "infinity": {"themes": ["Night"]},
        "plugins": {"rules": {"settings": {"files": ["floor.toml"]}}},
    }
    with pytest.raises(ConfigError) as refused:
        build_policy(from_document(document, tmp_path / "config.toml"))
    (text,) = map(str, refused.value.problems)
    assert 'files."floor.toml line 2".then.result.ivr_theme_name' in text
    assert "did you mean 'Night'?" in text


def test_the_folder_of_the_files_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "floor [2]*"
    folder.mkdir()
    (folder / "a.toml").write_text(FIRST)
    settings = Settings.model_validate({"files": ["*.toml"]}, context={"root": folder})
    assert list(Rules(settings).tracked_files()) == [folder / "a.toml"]


@pytest.mark.parametrize(
    ("then", "refuses"),
    [
        ("continue", False),
        ("reject", True),
        ({"action": "reject", "reject_reason": "not you, {remote_alias}"}, True),
    ],
)
def test_a_rule_that_refuses_is_known_to(then: Any, *, refuses: bool) -> None:
    settings = Settings.model_validate(rule(then, "participant_properties"))
    assert Rules(settings).can_reject is refuses
