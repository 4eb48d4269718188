"""Import of a router's CSV export: rows, notes, faults, and the same decisions as the router."""

import csv
import io
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy.builder import policy_from
from pexpolicy.cli.main import main
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import Pattern, PatternError
from pexpolicy.models.request import set_origin
from pexpolicy_importers.policy_router import UncompilableError, searched

COLUMNS = (
    *("name", "regex", "priority", "is_active", "protocols", "call_directions", "source_match"),
    *("service_target_url", "participant_target_url"),
    *("basic_auth_username", "basic_auth_password"),
    *("always_continue_service", "override_service_response"),
    *("always_continue_participant", "override_participant_response"),
)
"""The columns of an export, in their order."""
CONTINUE = {"status": "success", "action": "continue"}
REJECT = {"status": "success", "action": "reject"}
Row = dict[str, Any]


def row(name: str = "rule", regex: str = "^bad", **cells: Any) -> Row:
    return {
        "name": name,
        "regex": regex,
        "priority": 100,
        "is_active": True,
        "protocols": [],
        "call_directions": [],
        "source_match": "",
        "service_target_url": "",
        "participant_target_url": "",
        "basic_auth_username": "",
        "basic_auth_password": "",
        "always_continue_service": False,
        "override_service_response": {},
        "always_continue_participant": False,
        "override_participant_response": {},
        **cells,
    }


def reject(name: str = "rule", regex: str = "^bad", **cells: Any) -> Row:
    return row(name, regex, always_continue_service=True, override_service_response=REJECT, **cells)


def export(rows: list[Row]) -> str:
    """Return the file that the router writes: JSON in some cells, priority 0 as an empty cell."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for cells in rows:
        written = []
        for column in COLUMNS:
            value = cells[column]
            is_json = column in ("protocols", "call_directions") or column.startswith("override")
            if column == "priority":
                value = value or ""
            written.append(json.dumps(value) if is_json else str(value))
        writer.writerow(written)
    return file.getvalue()


def import_router(folder: Path, text: str) -> Result:
    (folder / "router.csv").write_text(text, newline="")
    arguments = ["import", "router", str(folder / "router.csv")]
    return CliRunner().invoke(main, [*arguments, "--into", str(folder / "rules.toml")])


def rules_of(folder: Path) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = tomllib.loads((folder / "rules.toml").read_text())["rules"]
    return rules


def test_the_export_is_read_as_it_is(tmp_path: Path) -> None:
    result = import_router(tmp_path, export([reject("rej", priority=3)]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert rules_of(tmp_path) == [
        {
            "name": "rej",
            "endpoint": ["service_configuration"],
            "when": {"local_alias": {"raw": {"regex": "bad.*", "case_sensitive": True}}},
            "then": {"action": "reject"},
        }
    ]


ROOM = {"name": "Room", "service_type": "conference", "service_tag": "", "view": None}
THREE = export([reject(name, priority=number) for number, name in enumerate("abc", 1)])


@pytest.mark.parametrize(
    ("text", "note", "rules"),
    [
        (
            export([reject(protocols=["sip", "webrtc"])]),
            "",
            [{"any": [{"protocol": ["sip", "webrtc"]}, {"protocol": {"exists": False}}]}],
        ),
        (export([reject("b", priority=1), reject("a", priority=0)]), "", [{}, {}]),
        (export([reject(regex="^$")]), "", [{}]),
        (
            export([reject("broken", "a("), reject("good")]),
            "line 2: broken is left out: 'a(' is not a regular expression",
            [{}],
        ),
        (
            export([reject(source_match="10.0.0.1")]),
            "10.0.0.1 is in 10.0.0.10",
            [{"peer": {"contains": "10.0.0.1"}}],
        ),
        # A protocol in upper case matches no request that names one.
        (
            export([reject(protocols=["SIP"]), reject("b", priority=101, protocols=["SIP", "x"])]),
            "",
            [
                {"protocol": {"exists": False}},
                {"any": [{"protocol": ["x"]}, {"protocol": {"exists": False}}]},
            ],
        ),
        (
            export([reject() | {"override_service_response": {**CONTINUE, "result": ROOM}}]),
            "view: null is no value of this field; leave it out",
            [{}],
        ),
        (
            export([reject()]).replace("priority", "hue,priority").replace("^bad,", "^bad,red,"),
            "the column 'hue' is not read",
            [{}],
        ),
        (
            "name,regex,priority,is_active,service_target_url\na,^a,5,True,https://old.example.com\n",
            "",
            [{}],
        ),
    ],
)
def test_an_export_is_read_with_notes(
    tmp_path: Path, text: str, note: str, rules: list[Row]
) -> None:
    result = import_router(tmp_path, text)
    assert result.exit_code == 0, result.output
    assert note in result.stderr
    assert bool(result.stderr) is bool(note)
    found = rules_of(tmp_path)
    assert [rule["when"] | when for rule, when in zip(found, rules, strict=True)] == [
        rule["when"] for rule in found
    ]
    assert [rule["name"] for rule in found][:1] != ["b"]
    assert "pin" not in found[0]["then"].get("result", {})


@pytest.mark.parametrize(
    ("text", "fault", "names"),
    [
        (
            THREE.replace("True,[],[]", "True,sip|h323,[]", 1),
            'line 2: protocols: is not a JSON list; write one such as ["sip", "webrtc"]',
            ["b", "c"],
        ),
        (
            THREE.replace("\r\n", ",Override Service Response\r\n", 1).replace("{}\r", "{},{}\r"),
            "line 1: the column override_service_response appears twice",
            None,
        ),
        # A quote that is never closed swallows no rule in silence.
        (THREE.replace("b,^bad", 'b,"^bad'), "line 3: cannot be read", ["a"]),
        ("sep=,\r\n\r\n" + export([reject(protocols="sip")]), "csv line 4: protocols", None),
        ("subnet,location\n10.0.0.0/8,Oslo\n", "line 1: the column name is missing", None),
        ("x" * 200_000, "line 1: ", None),
        (
            export([row("deep", always_continue_service=True), reject("good")]).replace(
                "True,{},", f"True,{'[' * 60_000},", 1
            ),
            "line 2: override_service_response",
            ["good"],
        ),
    ],
)
def test_what_cannot_be_read_is_a_fault(
    tmp_path: Path, text: str, fault: str, names: list[str] | None
) -> None:
    result = import_router(tmp_path, text)
    assert result.exit_code == 65
    assert fault in result.stderr
    if names is None:
        assert not (tmp_path / "rules.toml").exists()
    else:
        assert [rule["name"] for rule in rules_of(tmp_path)] == names


def test_rows_are_imported_one_by_one_and_faults_are_reported(tmp_path: Path) -> None:
    rows = [
        reject("good", priority=1),
        reject("ahead", "^a(?!b)"),
        reject("named", source_match="inf.example.com"),
        row("broken", always_continue_service=True, override_service_response={"action": "rejct"}),
        row(
            "untyped",
            always_continue_service=True,
            override_service_response={**CONTINUE, "result": {"name": "x"}},
        ),
        row("nowhere", service_target_url="ftp://h/x"),
        reject("last"),
    ]
    result = import_router(tmp_path, export(rows))
    assert result.exit_code == 65
    assert [rule["name"] for rule in rules_of(tmp_path)] == ["good", "last"]
    assert f"{tmp_path / 'rules.toml'}: 2 added" in result.stdout
    for line, name, text in (
        (3, "ahead", "look-around"),
        (4, "named", "write addresses of nodes"),
        (5, "broken", "override_service_response has the action 'rejct'"),
        (6, "untyped", "service_type: is required"),
        (7, "nowhere", "service_target_url: write a whole URL"),
    ):
        (message,) = [t for t in result.stderr.splitlines() if f"csv line {line}: " in t]
        assert text in message
        assert message.endswith(f"; rule {name!r} is left out")


def test_passwords_are_not_printed_and_the_user_is(tmp_path: Path) -> None:
    target = "https://old.example.com"
    rows = [
        row("a", service_target_url=target, basic_auth_username="u", basic_auth_password="hunter2"),
        row("b", "^b", priority=101, service_target_url=target),
    ]
    result = import_router(tmp_path, export(rows))
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    printed = tomllib.loads(result.stdout.partition("upstream:\n")[2])
    assert printed["plugins"]["upstream"]["settings"]["targets"] == {
        "server1": {"url": target, "user": "u", "password_file": "server1.password"},
        "server2": {"url": target},
    }
    assert "hunter2" not in (tmp_path / "rules.toml").read_text()


def test_the_routes_to_other_servers_are_in_the_order_of_the_rules(tmp_path: Path) -> None:
    urls = ["https://one.example.com", "https://two.example.com"]
    rows = [
        row(name, regex, priority=number, service_target_url=urls[number % 2])
        for number, (name, regex) in enumerate([("a", "^a"), ("b", "^b"), ("c", "^bc")])
    ]
    result = import_router(tmp_path, export(rows))
    printed = tomllib.loads(result.stdout.partition("upstream:\n")[2])
    settings = printed["plugins"]["upstream"]["settings"]
    assert [route["targets"] for route in settings["routes"]] == [
        ["server1"],
        ["server2"],
        ["server1"],
    ]
    assert "followed by the next route that matches" in result.stderr


def test_a_static_reply_keeps_its_braces_and_loses_what_infinity_ignores(tmp_path: Path) -> None:
    static_result = {
        "name": "Room {x}",
        "service_type": "conference",
        "service_tag": "t",
        "aliases": ["a"],
        "allow_guests": "true",
        "view": None,
    }
    rows = [
        row(
            always_continue_service=True,
            override_service_response={**CONTINUE, "result": static_result},
        )
    ]
    result = import_router(tmp_path, export(rows))
    assert result.exit_code == 0
    assert "aliases is left out: Infinity knows no such field" in result.stderr
    assert rules_of(tmp_path)[0]["then"]["result"] == {
        "name": "Room {{x}}",
        "service_type": "conference",
        "service_tag": "t",
        "allow_guests": True,
    }


@pytest.mark.parametrize(
    "reply",
    [
        {"action": "reject"},
        {"status": "fail", "action": "reject"},
        {"status": "success", "action": "reject", "result": {"message": "no"}},
        {"action": "reject", "result": {"name": "x", "service_type": "conference"}},
    ],
)
def test_a_reject_stays_one_whatever_is_next_to_it(tmp_path: Path, reply: Row) -> None:
    rows = [row(always_continue_service=True, override_service_response=reply)]
    assert import_router(tmp_path, export(rows)).exit_code == 0
    assert rules_of(tmp_path)[0]["then"] == {"action": "reject"}


def test_a_line_break_in_a_url_adds_no_rule(tmp_path: Path) -> None:
    rule = '[[rules]]\nname = "all"\nendpoint = "media_location"\nthen = "continue"'
    url = f"http://x\n{rule}\n#"
    rows = [row("off", is_active="false", service_target_url=url), reject("on", priority=101)]
    import_router(tmp_path, export(rows))
    assert [rule["name"] for rule in rules_of(tmp_path)] == ["off", "on"]


def test_rules_of_one_name_stay_two(tmp_path: Path) -> None:
    long = "x" * 100
    rows = [reject("a"), reject("a", "^b"), reject(long), reject(long, "^c")]
    text = export([rule | {"priority": number} for number, rule in enumerate(rows)])
    assert import_router(tmp_path, text).exit_code == 0
    names = [rule["name"] for rule in rules_of(tmp_path)]
    assert names == ["a", "a (2)", long, f"{long[:96]} (2)"]
    again = import_router(tmp_path, text)
    assert "4 unchanged" in again.stdout


def test_an_order_that_differs_from_the_routers_is_reported(tmp_path: Path) -> None:
    assert import_router(tmp_path, export([reject("b", priority=2)])).exit_code == 0
    result = import_router(
        tmp_path, export([reject("b", priority=2), reject("a", "^a", priority=1)])
    )
    assert "new rules are at its end: move them" in result.stderr


def test_of_one_priority_the_last_row_is_asked_first_and_this_is_told(tmp_path: Path) -> None:
    rows = [
        row("old", always_continue_service=True),
        reject("off", is_active="False"),
        reject("new"),
    ]
    result = import_router(tmp_path, export(rows))
    assert result.exit_code == 0
    assert [rule["name"] for rule in rules_of(tmp_path)] == ["new", "off", "old"]
    (note,) = result.stderr.splitlines()
    assert note.startswith("note: lines 4, 2 have the priority 100: the router asked the rule that")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "sep=,\r\n" + text,
        lambda text: "\r\n\r\n" + text,
        lambda text: text + ",,\r\n\r\n",
        lambda text: "".join(f"{line},,\r\n" for line in text.splitlines()),
        lambda text: text.replace(",".join(COLUMNS), ",".join(COLUMNS).replace("_", " ").title()),
        lambda text: text.replace(",[],[],", ",null,null,").replace(",{}\r", ",null\r"),
        lambda text: text.replace(",3,True,", ", ,TRUE,"),
        lambda text: tabbed(text.replace("True", "WAHR").replace("False", "FALSCH"), ";"),
        lambda text: tabbed(text.replace("True", "VRAI").replace("False", "FAUX"), ";"),
        lambda text: tabbed(text, "\t"),
        lambda text: "sep=;\r\n" + tabbed(text, ";"),
    ],
)
def test_what_a_spreadsheet_makes_of_an_export_is_read(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    result = import_router(tmp_path, change(export([reject("rej", priority=3)])))
    assert (result.exit_code, result.stderr) == (0, "")
    assert [rule["then"] for rule in rules_of(tmp_path)] == [{"action": "reject"}]


def tabbed(text: str, delimiter: str) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows(csv.reader(io.StringIO(text, newline="")))
    return file.getvalue()


# ---- deciding as the router did


LETTERS = "ab1.@-"
ATOMS = st.sampled_from(
    [
        *("a", "b", "1", ".", r"\.", r"\d", r"\w", "[ab]", "[^a]", "[]a]", r"[\d@]", "@", "-"),
        *("(?:a|b)", "(a|1)", "^", "$", r"\Z", r"\b", "|", "(?i:A)", "(?=a)", "a{,2}", "b{2,}"),
        *("a{1}", ".*", "b+?", "a*", "{", r"\$", r"\\", "[a|b$]"),
    ]
)
REGEXES = st.lists(ATOMS, min_size=1, max_size=5).map("".join)
ALIASES = st.none() | st.text(LETTERS, max_size=6) | st.sampled_from(["", "bad", "a$", "{", "A"])
PROTOCOLS = ["sip", "h323", "webrtc"]
DIRECTIONS = ["dial_in", "dial_out"]
PEERS = ["10.0.0.1", "10.0.0.10", "192.168.1.5", "2001:db8::1"]
SOURCES = ["", "10.0.0.1", "10.0.0.", ".1", "2001:DB8::", " none "]
REPLIES: list[tuple[Row, str]] = [
    ({}, "continue"),
    (CONTINUE, "continue"),
    (REJECT, "reject"),
    ({"action": "reject"}, "reject"),
    ({"status": "fail", "action": "reject"}, "reject"),
    ({"status": "fail", "result": {"name": "x"}}, "continue"),
    ({"status": "success", "action": None}, "continue"),
]
ROOMS: list[tuple[Row, str]] = [
    (
        {
            "status": "success",
            "action": action,
            "result": {"name": "R{1}", "service_type": "conference", "service_tag": ""},
        },
        "R{1}",
    )
    for action in ("continue", None, "allow")
]
TARGET = "https://next.example.com"


@st.composite
def rows_of(draw: st.DrawFn) -> Row:
    answers, passes = draw(st.booleans()), draw(st.booleans())
    participant = draw(st.booleans())
    return row(
        draw(st.sampled_from("ABC")),
        draw(REGEXES),
        priority=draw(st.integers(0, 3)),
        is_active=draw(st.sampled_from([True, True, True, False])),
        protocols=draw(st.lists(st.sampled_from(PROTOCOLS), max_size=2, unique=True)),
        call_directions=draw(st.lists(st.sampled_from(DIRECTIONS), max_size=1)),
        source_match=draw(st.sampled_from(SOURCES)),
        service_target_url=TARGET if passes else "",
        always_continue_service=answers,
        override_service_response=draw(st.sampled_from(REPLIES + ROOMS))[0],
        always_continue_participant=participant,
        override_participant_response=draw(st.sampled_from(REPLIES))[0],
    )


def as_documented(rows: list[Row], kind: str, query: dict[str, str], peer: str) -> str:
    """Return the router's decision for a request, by an independent implementation.

    Rules by ascending priority, of equal ones the last first, inactive ones left out. Its
    expression is searched for in the alias; protocols and directions limit it where the request
    names one; a source is the address or a part of it. An expression that is broken is skipped,
    and a rule that neither answers nor passes on lets the next one decide.
    """
    for rule in sorted(rows, key=lambda rule: -rule["priority"])[::-1]:
        if not rule["is_active"]:
            continue
        try:
            found = re.search(rule["regex"], query.get("local_alias") or "")
        except re.error:
            continue
        protocol, direction = query.get("protocol"), query.get("call_direction")
        source = rule["source_match"].strip().lower()
        if (
            not found
            or (protocol and rule["protocols"] and protocol not in rule["protocols"])
            or (direction and rule["call_directions"] and direction not in rule["call_directions"])
            or (source not in ("", "none", "null") and source not in peer)
        ):
            continue
        if rule[f"always_continue_{kind}"]:
            reply = rule[f"override_{kind}_response"]
            return next(decision for known, decision in REPLIES + ROOMS if known == reply)
        if rule[f"{kind}_target_url"]:
            return "passed on"
    return "passed on"  # a 404: the next plugin, in the end Infinity itself


QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "local_alias": ALIASES.filter(lambda alias: alias is not None),
        "protocol": st.sampled_from(["", *PROTOCOLS]),
        "call_direction": st.sampled_from(["", *DIRECTIONS]),
    },
)


def decided(answer: Any) -> str:
    """Return the decision in the terms of ``as_documented``."""
    reply = json.loads(answer.reply.body)
    if reply["decided_by"] != "rules":
        return "passed on"
    return str(reply.get("result", {}).get("name") or reply["action"])


@given(
    st.lists(rows_of(), min_size=1, max_size=4),
    st.lists(st.tuples(QUERIES, st.sampled_from(PEERS)), min_size=3, max_size=6),
)
@example([reject(regex="^$")], [({}, PEERS[0]), ({"local_alias": ""}, PEERS[0])])
@example([reject(regex="^[^@]*$")], [({"local_alias": "@"}, PEERS[0])])
@example([reject(protocols=["SIP"])], [({"local_alias": "bad", "protocol": "sip"}, PEERS[0])])
@example([reject(regex="a{,1}b$")], [({"local_alias": "xab"}, PEERS[0])])
async def test_the_imported_policy_decides_as_the_router_does(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    requests: list[tuple[dict[str, str], str]],
) -> None:
    folder = tmp_path_factory.mktemp("router")
    result = import_router(folder, export(rows))
    skipped = {int(n) for n in re.findall(r"^router.csv line (\d+)", result.stderr, re.MULTILINE)}
    assert result.exit_code == (65 if skipped else 0)
    rows = [rule for number, rule in enumerate(rows, 2) if number not in skipped]
    (folder / "rules.toml").touch()
    (folder / "config.toml").write_text('[plugins.rules.settings]\nfiles = ["rules.toml"]\n')
    policy = policy_from(folder / "config.toml")
    async with policy.serving():
        for query, peer in requests:
            for kind, endpoint in (
                ("service", "service_configuration"),
                ("participant", "participant_properties"),
            ):
                request = ENDPOINTS[endpoint].parse(MultiDict(query))
                set_origin(request, "", peer)
                answer = await policy.answer(request, "id")
                assert decided(answer) == as_documented(rows, kind, query, peer), (
                    kind,
                    query,
                    peer,
                )


@given(st.text(r"ab1.^$|()[]{},?*+\dwZbB", max_size=8), st.text(LETTERS + "${,", max_size=6))
@example("a{,2}", "a")
@example("^{,}", "{,}")
@example(r"a\Z", "ba")
@example("[[:alpha:]]", "a")
@example(r"\B", "")
@example(r"a|\B1?", "")
@example(r"\\B", "")
@settings(max_examples=400, deadline=None)
def test_a_translated_expression_finds_what_python_finds(regex: str, text: str) -> None:
    try:
        pattern = Pattern(searched(regex), case_sensitive=True)
    except (UncompilableError, PatternError):
        return
    assert pattern.matches(text) is (re.search(as_of_314(regex), text) is not None)


def as_of_314(regex: str) -> str:
    r"""Return an expression whose ``\B`` matches an empty text, as RE2 and Python 3.14 read it."""
    return re.sub(r"\\(.)", lambda m: r"(?:\B|\A\Z)" if m[1] == "B" else m[0], regex)
