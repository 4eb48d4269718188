"""Configurations of log shippers, as far as they can be tested without these programs."""

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

from pexpolicy.audit.records import DecisionRecord
from pexpolicy.audit.rotation import Rotation, rotated
from tests.audit.places import Place
from tests.support.paths import ROOT

VECTOR = ROOT / "deploy" / "vector.toml"
FLUENT_BIT = ROOT / "deploy" / "fluent-bit.conf"
LOGROTATE = ROOT / "deploy" / "logrotate.conf"
FOLDER = "/var/log/pexpolicy/"


def vector() -> dict[str, Any]:
    return tomllib.loads(VECTOR.read_text())


def fluent_bit() -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    here: dict[str, str] = {}
    for line in FLUENT_BIT.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (name := re.fullmatch(r"\[(\w+)\]", line)) is not None:
            here = sections.setdefault(name[1], {})
        else:
            assert line.startswith("    "), line
            key, value = line.split(maxsplit=1)
            here[key] = value
    return sections


def files(tmp_path: Path) -> list[str]:
    """Return the files of a server and of logrotate, under the installed paths."""
    place = Place(tmp_path)
    place.fill([1])
    assert Rotation().rotate(place.path, lambda: True)
    assert len(rotated(place.path)) == 1
    place.file.reopen()
    (tmp_path / "audit.jsonl.1").touch()
    (tmp_path / "audit.jsonl.2.gz").touch()
    (tmp_path / "audit.jsonl.shipped").touch()
    return [FOLDER + path.name for path in tmp_path.iterdir()]


def chosen(names: list[str], include: list[str], exclude: list[str]) -> list[str]:
    return [
        name
        for name in names
        if any(fnmatch.fnmatch(name, pattern) for pattern in include)
        and not any(fnmatch.fnmatch(name, pattern) for pattern in exclude)
    ]


def test_both_read_the_file_and_what_was_rotated_and_nothing_else(tmp_path: Path) -> None:
    names = files(tmp_path)
    source, tail = vector()["sources"]["audit"], fluent_bit()["INPUT"]
    wanted = {name for name in names if not name.endswith((".lock", ".gz", ".shipped"))}
    assert len(names) == len(wanted) + 3
    assert set(chosen(names, source["include"], source["exclude"])) == wanted
    paths = tail["path"].split(","), tail["exclude_path"].split(",")
    assert set(chosen(names, *paths)) == wanted


def test_vector_labels_by_fields_that_a_line_has() -> None:
    program = vector()["transforms"]["labelled"]["source"]
    read = set(re.findall(r"\bline\.(\w+)", program))
    assert read == {"event", "endpoint", "action", "timestamp"}
    assert read <= set(DecisionRecord.__struct_fields__)
    made = set(re.findall(r"^\.(\w+) =", program, re.MULTILINE))
    labels = vector()["sinks"]["loki"]["labels"]
    assert {value[3:-3] for value in labels.values() if value.startswith("{{")} <= made


def test_vector_hands_each_part_on_to_the_next() -> None:
    document = vector()
    known = {*document["sources"], *document["transforms"]}
    for part in (*document["transforms"].values(), *document["sinks"].values()):
        assert set(part["inputs"]) <= known


def test_a_line_is_shipped_as_it_stands_and_kept_until_it_has_arrived() -> None:
    sink, sections = vector()["sinks"]["loki"], fluent_bit()
    assert sink["encoding"] == {"codec": "text"}
    assert sink["acknowledgements"] == {"enabled": True}
    assert sink["buffer"]["when_full"] == "block"
    assert sections["OUTPUT"]["drop_single_key"] == "raw"
    assert sections["OUTPUT"]["retry_limit"] == "no_limits"
    assert sections["OUTPUT"]["match"] == sections["INPUT"]["tag"]
    assert sections["INPUT"]["storage.type"] == "filesystem"


def test_all_of_them_mean_the_same_file() -> None:
    path = f"{FOLDER}audit.jsonl"
    assert LOGROTATE.read_text().count(f"\n{path} {{\n") == 1
    assert vector()["sources"]["audit"]["include"][0] == path
    assert fluent_bit()["INPUT"]["path"].split(",")[0] == path
    assert f'path = "{path}"' in (ROOT / "docs" / "deployment.md").read_text()
