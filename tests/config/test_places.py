"""Places of keys of a configuration: the right line."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.config.places import Places, grouped
from pexpolicy.config.problems import Key, Problem

ROOT = Path(__file__).parent.parent.parent
FILES = sorted([*ROOT.glob("*.toml"), *ROOT.glob("[!.]*/**/*.toml")])
ODD = r"""
top.'a b'."c\"d" . e = 1 # comment
"q#" = 'x # y' # "z"
long = '''
[not.a.table]
key = "value"
'''
basic = QQQa \QQQ # b
QQQ
at = 2026-11-27 10:00:00Z
list = [ 1, [ "]", '[' ], # [
  { a = 1, "b" = [ true ] },
]
[[t]]
x = 1
[t.u]
y = 2
[[t.v]]
[[t.v]]
z = 3
[[t]]
x = 4
[ spaced . "out" ]
e = 5
[t.w]
k = { }
""".replace("QQQ", '"' * 3)


def leaves(value: Any, path: Key = ()) -> dict[Key, Any]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[Key, Any] = {}
    for key, one in inner:
        if isinstance(one, dict | list):
            found |= leaves(one, (*path, key))
        else:
            found[*path, key] = one
    return found


@pytest.mark.parametrize("text", [ODD, ODD.replace("\n", "\r\n"), *(p.read_text() for p in FILES)])
def test_the_line_of_each_value_holds_its_key(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        pytest.skip("a template")
    places, lines = Places(text), text.splitlines()
    for path, value in leaves(document).items():
        line = lines[places.line_of(path) - 1]
        if line.count("[") + line.count("{") > line.count("]") + line.count("}"):
            continue  # the key around a value of several lines
        assert (str(path[-1]) in line) or isinstance(path[-1], int) or '\\"' in line, path
        assert isinstance(path[-1], str) or str(value)[:4].lower().strip() in line.lower(), path


def shown(folder: Path, text: str) -> str:
    (folder / "config.toml").write_text(text)
    return CliRunner().invoke(main, ["check", str(folder / "config.toml")]).stderr


PLACES = [
    ("[server]\nprot = 8000", "2:1"),
    ("[server]\n  budget = 9.0", "2:3"),
    ("[access]\nnetworks = ['10.0.0.0/8', '10.1.2.3/16']", "2:1"),
    ("[access]\nnetworks = [\n'10.0.0.0/8',\n'10.1.2.3/16'\n]", "2:1"),
    ("[tls]\nkey = 'a.pem'", "1:1"),
    ("server.port = 'x'", "1:1"),
    ("[server]\nhost = 10.0.0.1", "2:12"),
    ("[server\nport = 1", "1:8"),
    ('[auth]\npassword = "hunter2\n', "2:20"),
    ("[auth]\npassword = 'hunter2", "2:1"),
]


@pytest.mark.parametrize(("text", "place"), PLACES)
def test_the_place_of_a_problem_is_printed(text: str, place: str, tmp_path: Path) -> None:
    printed = shown(tmp_path, text)
    assert f"   --> {tmp_path}/config.toml:{place}\n" in printed
    assert "hunter2" not in printed


def test_a_problem_outside_of_the_file_has_no_place(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"a = '\xe6'")
    assert "-->" not in CliRunner().invoke(main, ["check", str(tmp_path / "config.toml")]).stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[server]\nport = QQQ80  \nQQQ\n", 2),
        ("[server]\nhost = QQQ\nport = 7\nQQQ # a comment\nport = '80'\n", 5),
        ("[server]\r\nhost = QQQa\r\nQQQ\r\nport = QQQ\r\n80QQQ\r\n", 4),
        ("[access]\nnetworks = [QQQa\nb QQQ, 'c',\n]\n[server]\nport = '80'\n", 6),
    ],
)
def test_values_of_several_lines_hide_no_key(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(text.replace("QQQ", '"' * 3), newline="")
    _, document = as_json(tmp_path / "config.toml")
    assert line in [one["line"] for one in document["errors"]]


@pytest.mark.parametrize(
    "key", [("nowhere",), ("server", "nowhere"), ("access", "networks", 9), (0,), ("server", 1)]
)
def test_a_key_that_is_not_in_the_file_is_no_error(key: Key, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[server]\nport = 1\n[access]\nnetworks = []\n")
    Places.of_file(path).place_of(Problem(key, "is wrong"))
    assert Places.of_file(tmp_path / "missing").place_of(Problem(key, "is wrong")) is None
    assert Places.of_file(path).place_of(Problem((), "x", at=(9, 1))) is None


RULE = """[[plugins.rules.settings.rules]]
name = "r{0}"
endpoint = "service_configuration"
when.time.between = ["08:00", "17:00"]
then.action = "reject"
"""
CSV = '[plugins.rooms.settings]\ncsv = "rooms.csv"\n'
ROOM = '[plugins.rooms.settings.rooms.x{0}]\nname = "X{0}"\npin = "4711"\n'


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        (RULE, "", "rules.when.time.zone: 40 times (lines 4, 9, 14, 19, 24, ...): is missing"),
        (CSV, "x{0} y{0},X,4711,", "csv.pin: 40 times (rooms.csv lines 2, 3, 4, 5, 6, ...): "),
        (CSV, "x{0};y{0},X,,", "csv.aliases: 40 times (rooms.csv lines 2, 3, 4, 5, 6, ...), such"),
        (CSV, "x{0},X,,2030-01-01", "csv.valid_from: 40 times (rooms.csv lines 2, 3, 4, 5, 6"),
        (ROOM, "", "rooms.x0.pin: 40 times (lines 3, 6, 9, 12, 15, ...): "),
    ],
)
def test_findings_that_are_equal_but_for_their_places_are_one_line(
    text: str, row: str, expected: str, tmp_path: Path
) -> None:
    config, rows = tmp_path / "config.toml", [row.format(n) for n in range(40)]
    config.write_text("".join({text.format(n): None for n in range(40)}))
    (tmp_path / "rooms.csv").write_text("\n".join(["aliases,name,pin,valid_from", *rows]))
    printed = CliRunner().invoke(main, ["check", str(config)]).stderr
    (found,) = (line for line in printed.splitlines() if " times " in line)
    assert expected in found
    _, document = as_json(config)
    told = (*document["errors"], *document["warnings"])
    assert len({(one["file"], one["line"]) for one in told}) >= len(rows)


def test_a_few_findings_with_different_values_stay_apart(tmp_path: Path) -> None:
    one = Problem(("plugins", "x", "settings", "a"), "there is no group 'a' (rule 'r')")
    others = [replace(one, text=f"there is no group {name!r}") for name in "bcd"]
    assert grouped([one, one, *others[:2]], tmp_path) == [one, *others[:2]]
    assert len(grouped([one, *others], tmp_path)) == 1


# ---- check --json


def as_json(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(main, ["check", "--json", *map(str, arguments)])
    return done.exit_code, json.loads(done.stdout)


def test_json_names_the_place_of_each_error(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[server]\nprot = 1\n[plugins.romms]\n")
    code, document = as_json(config)
    assert (code, document["valid"], document["file"]) == (78, False, str(config))
    assert [(e["key"], e["line"], e["column"]) for e in document["errors"]] == [
        ("server.prot", 2, 1),
        ("plugins.romms", 3, 1),
    ]
    config.write_text("[server]\nhost = 10.0.0.1\n")
    code, document = as_json(config)
    assert (code, document["errors"][0]["line"], document["errors"][0]["key"]) == (78, 2, "")


@pytest.mark.parametrize(("strict", "expected"), [((), 0), (("--strict",), 1)])
def test_json_has_the_warnings_and_the_exit_code_of_strict(
    strict: tuple[str, ...], expected: int
) -> None:
    code, document = as_json(ROOT / "config.toml", *strict)
    assert (code, document["valid"], document["plugins"]) == (expected, True, ["domains", "rooms"])
    (warning,) = document["warnings"]
    assert warning["key"] == "plugins.rooms.settings.default_room"
    lines = (ROOT / "config.toml").read_text().splitlines()
    assert lines[warning["line"] - 1].startswith("default_room")
