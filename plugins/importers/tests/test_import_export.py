"""Import and export: CSV, updates in place, Python files, and files that cannot be imported."""

import io
from csv import reader
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pexpolicy.cli.main import main
from pexpolicy.config.csv_tables import TableError
from pexpolicy_importers import csv_files
from pexpolicy_importers.django_policy import find_domains, find_rooms, merge_domains, merge_rooms
from pexpolicy_importers.toml_merge import ImportFailed
from tests.support.paths import ROOT

RULES = """\
# Rules of the desk. Ask Ada before changing one.

[[rules]]               # the scanners
name = "Scanners"
endpoint = "service_configuration"
# They call themselves so.
when.vendor.prefix = ["friendly-scanner"]   # add yours
then = "reject"

[[rules]]
name = "Desk"
endpoint = "service_configuration"
[rules.when.local_alias]
user = "desk"
[rules.then.result]
name = "Desk"           # as in Infinity
service_tag = "desk"
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def exported(file: Path) -> str:
    return csv_files.to_csv(csv_files.rules_in(file))


CONTENTS = {
    "CSV": ["aliases,name\nmeet@example.com,A\n", "Raum;PIN\n;1\n"],
    "TOML": [RULES, '# of a\nrooms = ["a"]\n[x]\ny = 1\n'],
    "JSON": ['{"mappings": 1}', '[ {"a": null} ]'],
    "Python": ["import os, sys\nA = 1\n", '"""Rooms, all."""\nROOMS = {}\n', "R = {\n 'a': {}}\n"],
}
READS = {
    "CSV": ["import rules", "import router"],
    "TOML": ["export rules", "export rooms"],
    "JSON": ["import subnets"],
    "Python": ["import rooms", "import domains"],
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("wanted", READS)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str, wanted: str) -> None:
    for number, content in enumerate(CONTENTS[kind] if kind != wanted else ()):
        file = tmp_path / f"{number}.txt"
        file.write_text(content)
        for command in READS[wanted]:
            done = run(*command.split(), file)
            assert done.exit_code == 65, (command, done.output)
            assert file.name in done.stderr


def test_what_is_exported_and_imported_changes_nothing(file: Path, tmp_path: Path) -> None:
    csv = tmp_path / "rules.csv"
    csv.write_text(run("export", "rules", file).stdout)
    result = run("import", "rules", csv, "--into", file)
    assert result.output == f"{file}: 2 unchanged\n"
    assert file.read_text() == RULES


def test_a_change_in_the_csv_is_made_where_the_rule_stands(file: Path, tmp_path: Path) -> None:
    csv = tmp_path / "rules.csv"
    changed = exported(file).replace("friendly-scanner", "sipcli").replace('"desk"', '"info"')
    added = 'New;media_location;true;;action = "continue"\n'.replace(";", ",")
    csv.write_text(changed + added.replace('action = "continue"', '"action = ""continue"""'))
    result = run("import", "rules", csv, "--into", file)
    assert result.output == f"{file}: 1 added, 2 changed\n"
    expected = RULES.replace('["friendly-scanner"]', '["sipcli"]').replace('"desk"', '"info"')
    assert file.read_text().startswith(expected.rstrip("\n"))
    assert file.read_text().count("[[rules]]") == 3


def test_a_rule_that_the_csv_does_not_have_is_kept(file: Path, tmp_path: Path) -> None:
    csv = tmp_path / "rules.csv"
    csv.write_text('name,endpoint,then\nScanners,service_configuration,"action = ""continue"""\n')
    result = run("import", "rules", csv, "--into", file)
    assert result.output == f"{file}: 1 changed, 1 kept though not in the file\n"
    (first, second) = map(csv_files.normal, csv_files.rules_in(file))
    assert first == {
        "name": "Scanners",
        "endpoint": ["service_configuration"],
        "then": {"action": "continue"},
    }
    assert second["name"] == "Desk"
    assert "# Ask Ada" not in RULES or "Ask Ada before" in file.read_text()


TEXTS = st.text("ab\"'\\,;|\n #{}æ=+-@", min_size=1, max_size=6).filter(lambda t: t == t.strip())
WHENS = st.fixed_dictionaries(
    {},
    optional={
        "vendor": st.fixed_dictionaries({"prefix": st.lists(TEXTS, min_size=1, max_size=2)}),
        "registered": st.booleans(),
        "bandwidth": st.fixed_dictionaries({"greater": st.integers(0, 9) | st.just(2.5)}),
        "any": st.lists(st.fixed_dictionaries({"vendor": TEXTS}), min_size=1, max_size=2),
    },
)
THENS = st.sampled_from(["continue", "abstain"]) | TEXTS.map(
    lambda text: {"result": {"name": text, "automatic_participants": [{"remote_alias": text}]}}
)
DRAWN = st.lists(
    st.fixed_dictionaries(
        {
            "name": TEXTS,
            "endpoint": st.sampled_from([["media_location"], "service_configuration"]),
            "when": WHENS,
            "then": THENS,
            "enabled": st.booleans(),
        }
    ),
    max_size=4,
    unique_by=lambda rule: rule["name"],
)


@given(DRAWN)
@settings(max_examples=25, phases=[Phase.generate])
def test_any_rules_survive_the_way_through_csv(
    tmp_path_factory: pytest.TempPathFactory, rules: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    csv = folder / "rules.csv"
    text = csv_files.to_csv(rules)
    for cells in reader(io.StringIO(text, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells), "no formula"
    csv.write_text(text, newline="")
    read, _ = csv_files.read_csv(csv)
    assert read == [csv_files.normal(rule) for rule in rules]
    into = folder / "rules.toml"
    csv_files.merge(into, read)
    if rules:
        assert [csv_files.normal(r) for r in csv_files.rules_in(into)] == read
        before = into.read_text()
        assert csv_files.merge(into, read).changed == []
        assert into.read_text() == before


@given(DRAWN, DRAWN)
@settings(max_examples=25, phases=[Phase.generate])
def test_an_update_leaves_what_was_meant(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
) -> None:
    into = tmp_path_factory.mktemp("update") / "rules.toml"
    for number, rule in enumerate(before):
        rule["name"] = f"rule {number}"
    for number, rule in enumerate(after):
        rule["name"] = f"rule {number}"
    csv_files.merge(into, [csv_files.normal(rule) for rule in before])
    wanted = [csv_files.normal(rule) for rule in after]
    csv_files.merge(into, wanted)
    if before or after:
        there = {rule["name"]: csv_files.normal(rule) for rule in csv_files.rules_in(into)}
        assert [there[rule["name"]] for rule in wanted] == wanted
        assert len(there) == max(len(before), len(after))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,endpoint,than\n",
            "rules.csv line 1: there is no column 'than'; did you mean 'then'",
        ),
        (
            f"name,endpoint,then\nx,media_location,x={'[' * 5000}\n",
            "rules.csv line 2: then is not TOML (it is nested too deeply)",
        ),
        ("name,endpoint\n", "rules.csv line 1: the column then is missing"),
        ("name,endpoint,then\nx,media_location,reject\n", "rules.csv line 2: then is not TOML"),
        (
            'name,endpoint,then\nx,media_location,"action = ""reject"""\n',
            "rules.csv line 2: then.action: media_location cannot reject",
        ),
        (
            'name,endpoint,when,then\n\nx,media_location,"vendr = ""x""","action = ""continue"""\n',
            "rules.csv line 3: when.vendr: unknown key; did you mean 'vendor'?",
        ),
    ],
)
def test_a_csv_file_that_cannot_be_used_says_where(
    file: Path, tmp_path: Path, text: str, message: str
) -> None:
    csv = tmp_path / "rules.csv"
    csv.write_text(text)
    result = run("import", "rules", csv, "--into", file)
    assert result.exit_code == 65
    assert message in result.stderr
    assert file.read_text() == RULES


def test_the_rules_of_a_configuration_are_exported(file: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        RULES.replace("[[rules]]", "[[plugins.rules.settings.rules]]").replace(
            "[rules.", "[plugins.rules.settings.rules."
        )
    )
    result = run("export", "rules", config)
    assert (result.exit_code, result.stdout, result.stderr) == (0, exported(file), "")
    config.write_text(config.read_text() + "[plugins.rules.settings]\nfiles = ['more/*.toml']\n")
    result = run("export", "rules", config)
    assert (result.exit_code, result.stdout) == (0, exported(file))
    assert result.stderr == "note: the rules in more/*.toml are not among these\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[plugins.rules.settings]\nfiles = ['a.toml', 'b/*.toml']\n",
            "is a configuration that has its rules in a.toml, b/*.toml: export each of these",
        ),
        ("[plugins.rules.settings]\n", "is a configuration that has no rules"),
        ("[server]\nport = 1\n[auth]\n", "is not a rule file: it holds server, auth"),
        ("plugins = 3\n", "is not a rule file: it holds plugins"),
    ],
)
def test_a_file_without_rules_is_not_exported(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    result = run("export", "rules", file)
    assert (result.exit_code, result.stdout) == (65, "")
    assert result.stderr == f"{file} {message}\n"


# ---- Python files of an earlier server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "views.py"


def test_a_python_file_is_never_executed(source: Path, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    source.write_text(
        f"open({str(trace)!r}, 'w')\n"
        "class X:\n    rooms = {'a@example.com': {'name': 'A'}}\n"
        f"domains = ['@example.com', open({str(trace)!r}, 'w')]\n"
        "allowed: list[str] = ['@example.com']\n"
    )
    assert find_rooms(source).values == {"a@example.com": {"name": "A"}}
    assert find_domains(source).name == "allowed"
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rooms = 3", "holds nothing that looks like rooms"),
        ("rooms = {", "is not valid Python"),
        ("a = {'x': {'name': 'X'}}\nb = {'y': {'name': 'Y'}}", "a (line 1), b (line 2); leave one"),
        ("a = {'x': {'name': 'X', 'service_type': 'room'}}", "x: 'room' is not one of conference"),
        ("a = {'x': {'name': 'X', 'pin': '12'}}", "x: pin: must be 4 to 20 characters"),
        ("a" * 5 + " = " + "(" * 500, "is not valid Python"),
        ("rooms = " + "-" * 50_000 + "1", "is not valid Python: it is nested too deeply"),
        ("rooms = " + "[" * 150 + "]" * 150, "holds nothing that looks like rooms"),
        ("a = 1\0", "is not UTF-8 text"),
        ("a = {'a@b.c': {'name': 'A'}, 'A@b.c': {'name': 'B'}}", "are the same alias, but lead to"),
        ("ROOMS = {'sip:': {'name': 'A'}}", "'sip:' is not an alias"),
        ("ROOMS = {'b': {'name': 'B'}, 'a': {'name': os.environ['A']}}", "calculated are not read"),
        # All wrong rooms are named at once.
        ("a = {'x': {'name': 'X', 'pin': '12'}, 'y': {'name': '', 'view': 'no'}}", "\ny: "),
    ],
)
def test_a_python_file_without_rooms_says_so(source: Path, text: str, message: str) -> None:
    source.write_text(text)
    with pytest.raises((ImportFailed, TableError)) as refused:
        find_rooms(source)
    assert message in str(refused.value)


def test_fields_come_in_the_types_that_infinity_wants(source: Path) -> None:
    source.write_text(
        "rooms = {'x': {'name': 'X', 'pin': 4711, 'allow_guests': 'True', 'participant_limit': '9',"
        " 'guest_pin': None, 'theme': 'T', 'description': ''}}"
    )
    found = find_rooms(source)
    assert found.values["x"] == {
        "name": "X",
        "pin": "4711",
        "allow_guests": True,
        "participant_limit": 9,
    }
    assert found.remarks == [
        "x: theme is left out: Infinity knows no such field",
        "x: description is left out: it is empty",
    ]


def test_a_room_is_updated_under_any_spelling_of_its_alias(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text((ROOT / "config.toml").read_text())
    rooms = {
        "Engineering@Example.com:5060": {"name": "Engineering Room", "service_tag": "new"},
        "sip:new@example.com": {"name": "New"},
    }
    changes = merge_rooms(config, rooms)
    assert str(changes) == "1 added, 1 changed, 1 kept though not in the file"
    expected = (ROOT / "config.toml").read_text().replace('"engineering-room"', '"new"')
    assert config.read_text().startswith(expected.rstrip("\n"))
    assert config.read_text().endswith(
        '\n\n[plugins.rooms.settings.rooms."sip:new@example.com"]\nname = "New"\n'
    )
    assert str(merge_rooms(config, rooms)) == "2 unchanged, 1 kept though not in the file"


def test_new_domains_are_appended(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text((ROOT / "config.toml").read_text())
    changes = merge_domains(config, ["@Example.com", "@new.example"])
    assert str(changes) == "1 added, 1 unchanged, 1 kept though not in the file"
    assert config.read_text() == (ROOT / "config.toml").read_text().replace(
        '"@trusted.net"]', '"@trusted.net", "@new.example"]'
    )


def test_two_spellings_of_an_alias_are_one_room(source: Path, tmp_path: Path) -> None:
    source.write_text(
        "rooms = {'sip:Board@example.com': {'name': 'Board'}, 'board@example.com':"
        " {'name': 'Board', 'service_type': None}}"
    )
    found = find_rooms(source)
    assert found.remarks == ["board@example.com: is sip:Board@example.com in another spelling"]
    config = tmp_path / "config.toml"
    assert str(merge_rooms(config, found.values)) == "1 added"
    assert run("check", "--config", config).exit_code == 0


RULE = {"name": "x", "endpoint": ["media_location"], "then": {"action": "continue"}}


@pytest.mark.parametrize(
    ("merge", "text", "message"),
    [
        (merge_rooms, "[plugins.rooms.settings.rooms]\na = 5\n", "a is not a table"),
        (
            merge_rooms,
            "[plugins.rooms.settings]\nrooms = { x = { name = 'X' } }\n",
            "write each below a line",
        ),
        (merge_domains, '[plugins.domains.settings]\nallowed = "@a.org"\n', "not a list of dom"),
        (merge_domains, "[plugins.domains.settings]\nallowed = [5]\n", "not a list of dom"),
        (csv_files.merge, "rules = 3\n", "is not a rule file"),
        (csv_files.merge, "rules = [\n", "is not valid TOML"),
        (csv_files.merge, "[server]\nport = 1\n[plugins.rules]\n", "holds server, plugins"),
    ],
)
def test_a_file_of_another_form_is_not_touched(
    tmp_path: Path, merge: Any, text: str, message: str
) -> None:
    into = tmp_path / "config.toml"
    into.write_text(text)
    given = {merge_rooms: {"a": {"name": "A"}}, merge_domains: ["@b.org"]}.get(merge, [RULE])
    with pytest.raises(ImportFailed, match=message):
        merge(into, given)
    assert into.read_text() == text


def test_a_rule_of_another_form_is_replaced(tmp_path: Path) -> None:
    into = tmp_path / "rules.toml"
    into.write_text('[[rules]]\nname = "x"\n# Kept.\nendpoint = 5\nthen = 5\n\n# Of y.\n')
    assert csv_files.merge(into, [RULE]).changed == ["x"]
    assert csv_files.rules_in(into) == [RULE]
    assert [line for line in into.read_text().splitlines() if "#" in line] == ["# Kept.", "# Of y."]


def test_mode_and_symbolic_link_of_the_file_stay(tmp_path: Path) -> None:
    config, link = tmp_path / "secret.toml", tmp_path / "config.toml"
    config.write_text('[plugins.domains.settings]\nallowed = ["@example.com"]\n')
    config.chmod(0o640)
    link.symlink_to(config)
    merge_domains(link, ["@new.example"])
    assert link.is_symlink()
    assert "@new.example" in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [link, config]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[rules]]\nendpoint = 'media_location'\nthen = 'continue'\n",
            "the CSV file line 2: name: ",
        ),
        ("[[rules]]\nname = 5\nthen = 'continue'\n", "an invalid rule cannot be exported: name: "),
        ("[[rules]]\nname = ' x'\nthen = 'continue'\n", "the CSV file line 2: endpoint: "),
        (
            "[[rules]]\nname = ' x'\nendpoint = 'media_location'\nthen.result.pin = '4711'\n",
            "a table cannot hold name of ' x'",
        ),
        ("[[rules]]\nname = 'x'\nendpoint = 5\nthen = 5\n", "an invalid rule cannot be"),
        ("[plugins.rules.settings]\nfiles = 5\n", ""),
    ],
)
def test_what_cannot_be_exported_says_why(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    result = run("export", "rules", file)
    assert result.exit_code == 65
    assert result.stderr.startswith(message)
    assert "4711" not in result.stderr


MESSY = """\
from django.utils.translation import gettext_lazy as _
CACHES = {"default": {"BACKEND": "x"}}
ROOMS = {
    "sip:board@acme.example": {
        "name": "Board ", "pin": "482913 ", "guest_pin": 170356, "allow_guests": "True",
        "aliases": ["2301", "sip:Board@acme.example", " boardroom "], "owner": None,
    },
    "echo": {"name": u"Echo", "service_type": "test_call", "aliases": "2400 2401"},
}
ROOMS["late@acme.example"] = {"name": "Late"}
ROOMS.update({"later@acme.example": {"name": "Later"}})
DOMAINS = ["@acme.example", "*@Partner.example ", "sub.acme.example", "@acme.example"]
DOMAINS += ["@late.example"]
"""


def test_a_messy_file_keeps_all_that_can_be_kept(source: Path, tmp_path: Path) -> None:
    source.write_text(MESSY)
    found = find_rooms(source)
    assert found.values == {
        "sip:board@acme.example": {
            "name": "Board",
            "pin": "482913",
            "guest_pin": "170356",
            "allow_guests": True,
            "aliases": ["2301", "boardroom"],
        },
        "echo": {"name": "Echo", "service_type": "test_call", "aliases": ["2400", "2401"]},
    }
    assert found.remarks[:2] == [
        "line 10 changes ROOMS: this is not imported",
        "line 11 changes ROOMS: this is not imported",
    ]
    domains = find_domains(source)
    assert domains.values == ["@acme.example", "@Partner.example", "sub.acme.example"]
    assert domains.remarks == [
        "line 13 changes DOMAINS: this is not imported",
        (
            "sub.acme.example has no @: that server also admitted what ends so, such as "
            "a@sub.sub.acme.example; write *.sub.acme.example as well if this is meant"
        ),
    ]
    config = tmp_path / "config.toml"
    config.write_text("")
    assert str(merge_rooms(config, found.values)) == "2 added"
    assert str(merge_rooms(config, found.values)) == "2 unchanged"
    merge_domains(config, domains.values)
    checked = run("check", "--config", config)
    assert checked.exit_code == 0, checked.output


CALLED = "'local_alias': 'a', 'remote_alias': 'b', 'protocol': 'sip', 'role': 'guest'"


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ("'automatic_participants': ()", "automatic_participants", []),
        ("'participant_limit': 50.0", "participant_limit", 50),
        (
            f"'automatic_participants': ({{{CALLED}, 'dtmf_sequence': None}},)",
            "automatic_participants",
            [{"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "guest"}],
        ),
    ],
)
def test_python_values_become_those_of_toml(
    tmp_path: Path, written: str, name: str, value: Any
) -> None:
    policy, config = tmp_path / "policy.py", tmp_path / "config.toml"
    policy.write_text(f"ROOMS = {{'a': {{'name': 'A', {written}}}}}")
    found = find_rooms(policy)
    assert found.values["a"][name] == value
    assert merge_rooms(config, found.values).added == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        "del ROOMS['a']",
        "ROOMS.clear()",
        "ROOMS.popitem()",
        "ROOMS['a']['pin'] = '482913'",
        "ROOMS['a'].update(pin='482913')",
        "ROOMS = with_pins(ROOMS)",
    ],
)
def test_what_changes_rooms_later_is_reported(tmp_path: Path, change: str) -> None:
    policy = tmp_path / "policy.py"
    policy.write_text(f"ROOMS = {{'a': {{'name': 'A'}}}}\n{change}\n")
    assert find_rooms(policy).remarks == ["line 2 changes ROOMS: this is not imported"]


def test_a_pin_that_an_import_removes_is_reported(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[plugins.rooms.settings.rooms.a]\nname = "A"\npin = "482913"\n')
    changes = merge_rooms(config, {"a": {"name": "B"}})
    assert changes.remarks == ["a: pin is removed: it is not imported"]
    assert merge_rooms(config, {"a": {"name": "C"}}).remarks == []


def test_domains_that_the_plugin_would_refuse_are_not_imported(tmp_path: Path) -> None:
    policy = tmp_path / "policy.py"
    policy.write_text("ALLOWED = ['@example.com', '@exa mple']")
    with pytest.raises(ImportFailed, match="ALLOWED: '@exa mple' is not a domain"):
        find_domains(policy)
    policy.write_text("ALLOWED = ['@Example.com', '@example.com.']")
    assert find_domains(policy).values == ["@Example.com"]


def test_a_name_in_an_imported_file_does_not_command_the_terminal(tmp_path: Path) -> None:
    source = tmp_path / "rooms.py"
    source.write_text(r"ROOMS = {'a\x00\x1b[2J': {'name': 'x\x00'}}")
    done = run("import", "rooms", source, "--into", tmp_path / "rooms.toml")
    assert "note: a\ufffd\ufffd[2J: " in done.stderr
