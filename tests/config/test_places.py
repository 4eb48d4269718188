"""Places of keys and excerpts of a configuration: the right line, and never a secret."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.config.loader import load
from pexpolicy.config.places import Places
from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.settings import ConfigError

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path for path in ROOT.glob("**/*.toml") if path.parts[len(ROOT.parts)][0] != ".")
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
    ("[server]\nprot = 8000", "2:1", "prot = ***", "^"),
    ("[server]\n  budget = 9.0", "2:3", "  budget = ***", "  ^"),
    ("[server]\nport = '8000'  # ours", "2:1", "port = ***", "^"),
    ("[access]\nnetworks = ['10.0.0.0/8', '10.1.2.3/16']", "2:1", "networks = ***", "^"),
    ("[access]\nnetworks = [\n'10.0.0.0/8',\n'10.1.2.3/16'\n]", "2:1", "networks = ***", "^"),
    ("[tls]\nkey = 'a.pem'", "1:1", "[tls]", "^"),
    ("server.port = 'x'", "1:1", "server.port = ***", "^"),
    ("[server]\nhost = 10.0.0.1", "2:12", "host = ***", "          ^"),
    ("[server\nport = 1", "1:8", "[server", "       ^"),
    ('[auth]\npassword = "hunter2\n', "2:20", "password = ***", "              ^"),
    ("[auth]\npassword = 'hunter2", "2:1", "password = ***", "^"),
]


@pytest.mark.parametrize(("text", "place", "line", "mark"), PLACES)
def test_the_place_of_a_problem_is_marked(
    text: str, place: str, line: str, mark: str, tmp_path: Path
) -> None:
    number = place.partition(":")[0]
    printed = shown(tmp_path, text)
    assert f"   --> {tmp_path}/config.toml:{place}\n" in printed
    assert f"  {number} | {line}\n" in printed
    assert f"    | {mark}\n" in printed


def test_a_problem_outside_of_the_file_has_no_excerpt(tmp_path: Path) -> None:
    printed = shown(tmp_path, "[admin]\ntoken_env = 'UNSET_4711'\n[server]\nport = 9107")
    assert "2 | token_env = ***" in printed
    (tmp_path / "config.toml").write_bytes(b"a = '\xe6'")
    assert "-->" not in CliRunner().invoke(main, ["check", str(tmp_path / "config.toml")]).stderr


SECRETS = r"""# Tok3n-comment
plugin_dirs = ["Tok3n-dir"]
[auth]
user = "Tok3n-user"
password = "Tok3n-password" # Tok3n-behind
[privacy]
personal = "hashed"
key_env = 'Tok3n#key'
[admin]
token = Tok3n_bare
[plugins.upstream.settings.targets.t]
url = "https://user:Tok3n-url@policy.example.com"
pem = '''
-----BEGIN Tok3n-----
MIITok3nTok3n==
'''
[plugins.rooms.settings.rooms."meet@example.com"]
name = "Board"
host_pin = "Tok3n-pin"
nested = { secret = "Tok3n-a", list = ["Tok3n-b", 'Tok3n-c'], on = true }
"""


def excerpts_of(path: Path, text: str) -> list[tuple[str, str]]:
    path.write_text(text)
    try:
        load(path)
    except ConfigError as error:
        places = Places.of_file(path)
        found = [(str(problem), places.excerpt(problem)) for problem in error.problems]
        return [(message, excerpt.text) for message, excerpt in found if excerpt is not None]
    return []


def test_no_damage_of_a_file_brings_a_secret_into_an_excerpt(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    valid = SECRETS.replace("Tok3n_bare", '"Tok3n_bare"')
    seen = 0
    for text in (SECRETS, valid):
        for at in range(0, len(text), 3):
            for damaged in (text[:at] + text[at + 1 :], f"{text[:at]}'{text[at:]}"):
                for message, excerpt in excerpts_of(path, damaged):
                    seen += 1
                    leaked = set(re.findall(r"Tok3n[-\w]*", excerpt)) - set(
                        re.findall(r"Tok3n[-\w]*", message)
                    )
                    assert not leaked, (damaged, message, excerpt)
    assert seen > 1000


@pytest.mark.parametrize(
    "text",
    [
        "[server]\nport = QQQ80  \nQQQ\n",
        "[server]\nport = QQQ\n80 # x\nQQQ # a comment\n",
        "[server]\r\nhost = 1 # a comment\r\nport = QQQ\r\n80QQQ\r\n",
        '[access]\nnetworks = [QQQa\nb QQQ, "c",\n]\n',
    ],
)
def test_a_value_of_several_lines_is_no_error(text: str, tmp_path: Path) -> None:
    assert excerpts_of(tmp_path / "config.toml", text.replace("QQQ", '"' * 3))


@pytest.mark.parametrize("line", ["  [1234 5678],", "[1234 5678],", "[[1234], 5678 9],"])
def test_a_list_in_a_list_is_not_taken_for_a_table(line: str, tmp_path: Path) -> None:
    found = excerpts_of(tmp_path / "config.toml", f"pins = [\n{line}\n]\n")
    assert found
    assert not any(re.search(r"\d", excerpt) for _, excerpt in found), found


@pytest.mark.parametrize(
    "key", [("nowhere",), ("server", "nowhere"), ("access", "networks", 9), (0,), ("server", 1)]
)
def test_a_key_that_is_not_in_the_file_is_no_error(key: Key, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[server]\nport = 1\n[access]\nnetworks = []\n")
    Places.of_file(path).excerpt(Problem(key, "is wrong"))
    Places.of_file(tmp_path / "missing").excerpt(Problem(key, "is wrong"))
    assert Places.of_file(path).excerpt(Problem((), "x", at=(9, 1))) is None


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
