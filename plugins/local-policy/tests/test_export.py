"""``pexpolicy local-policy export``: a script that decides as the configuration does."""

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import Alias, Continue, Decision
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import Pattern, subject
from pexpolicy.testing import Policy, decide, make_policy
from pexpolicy_local_policy.export import Expressions, NotExportedError, export, python_pattern
from pexpolicy_local_policy.lint import lint
from pexpolicy_local_policy.script_process import Job, ScriptPool
from pexpolicy_local_policy.variables import ENDPOINT_OF, Kind, from_request
from pexpolicy_local_policy.verdict import Verdict, judge
from tests.support.local_policy import ROOM, local_policy
from tests.support.script_runs import Render

SUGGESTED = {
    "location": "Paris",
    "primary_overflow_location": None,
    "secondary_overflow_location": None,
}
ALIASES = (
    *("meet07", "MEET07@Example.COM", "sip:meet07@example.com:5060;transport=tls", "sips:a@b.c"),
    *("h323:meet07@10.0.0.1", "meet07@[2001:db8::1]:1720", "tel:+47 (12) 34-56", "10.44.0.7"),
    *("meet07@example.com.", " meet07 ", "sip:bob:secret@example.com", "bob?x=1", "bob;a=b@c.d"),
    *("sip:sip:x@y.z", "a@b@c.example", "@example.com", "meet07@", "me\u017fs", "stra\u00dfe", ""),
    *("[::1]:5060", "1.2.3.4:5060", "host:99", "a:b:c", "sip:10.0.0.1", "K\u212aelvin@x.y"),
)
TEXTS = ("", "Cisco/CE", "cisco", "Pexip Infinity Connect", "STRASSE", "Stra\u00dfe", "a.b", "x\ny")
ADDRESSES = ("10.1.2.3", "10.44.0.7", "::ffff:10.1.2.3", "2001:db8::5", "fe80::1%eth0", "x", "")

MATCH_NOTHING = (".*", "x*", "(Cisco.*)?", "(x|ab)?", "^$", "[a-z]*|x")
"""Patterns that match the empty text, which a request cannot have."""


def configuration(chosen: random.Random, kind: Kind) -> str:
    lines = ["[plugins.rules]", "priority = 10"]
    for number in range(chosen.randrange(1, 5)):
        lines += ["[[plugins.rules.settings.rules]]", f'name = "rule {number}"']
        lines += [f'endpoint = "{ENDPOINT_OF[kind]}"', f"when = {toml(when(chosen))}"]
        lines.append(f"then = {toml(then(chosen, kind))}")
    if kind != "media_location" and chosen.random() < 0.3:
        lines.append(f'[endpoints.{ENDPOINT_OF[kind]}]\ndefault = "reject"')
    return "\n".join(lines) + "\n"


def when(chosen: random.Random, depth: int = 2) -> dict[str, Any]:
    patterns = (
        "me.*",
        "[a-z]+\\\\d{2}(@.*)?",
        "^(meet|stra(ss|x)e)$",
        ".*[^s]",
        "a\\\\.b",
        "\\\\w+",
    )
    words = ("meet", "cisco", "ss", "e", "k", "example.com", "a")
    text: dict[str, Any] = {
        chosen.choice(("prefix", "suffix", "contains", "not_contains")): chosen.sample(words, 2)
    }
    texts = (
        text,
        {"regex": [chosen.choice(patterns).replace("\\\\", "\\")]},
        {"not_glob": ["*" + chosen.choice(words) + "?*"]},
        {chosen.choice(("regex", "not_regex")): [chosen.choice(MATCH_NOTHING)]},
        {chosen.choice(("glob", "not_glob")): chosen.choice((["*"], ["x", "**"]))},
        {"one_of": ["Cisco/CE", "strasse", "meet07"]},
        {"exists": chosen.random() < 0.5},
        {"regex": ["Cisco.*"], "case_sensitive": True},
        {"contains": ["Cisco"], "case_sensitive": True},
    )
    alias = tuple(condition for condition in texts if not condition.get("case_sensitive"))
    made: dict[str, Any] = {
        "local_alias": chosen.choice(alias),
        "remote_alias": {
            chosen.choice(("user", "host")): chosen.choice(texts),
            "raw": chosen.choice(texts),
        },
        "vendor": chosen.choice(texts),
        "remote_display_name": chosen.choice(texts),
        "protocol": chosen.choice(("sip", {"one_of": ["webrtc", "api"]})),
        "registered": chosen.choice((True, False, {"exists": True}, {"not_equals": True})),
        "bandwidth": chosen.choice((128, {"greater": 500}, {"not_less": 500}, {"exists": False})),
        "remote_address": {
            chosen.choice(("in_subnet", "not_in_subnet")): ["10.1.0.0/16", "fe80::/10"]
        },
    }
    names = chosen.sample(sorted(made), chosen.choice((0, 1, 1, 2)))
    found = {name: made[name] for name in names}
    if depth and chosen.random() < 0.4:
        parts = [when(chosen, depth - 1) for _ in range(2)]
        found[chosen.choice(("all", "any", "none"))] = parts
    return found


def then(chosen: random.Random, kind: Kind) -> Any:
    choices: dict[str, list[Any]] = {
        "service": [
            "reject",
            "continue",
            "abstain",
            {"action": "redirect", "new_alias": "sip:a@b.c"},
            {"result": {"name": 'A "b"', "pin": "482913", "service_tag": "t"}},
        ],
        "participant": [
            "continue",
            {"action": "reject", "reject_reason": 'No "way"'},
            {"result": {"remote_display_name": "Somebody", "preauthenticated_role": "chair"}},
        ],
        "media_location": ["continue", "abstain", {"result": {"location": "Lima"}}],
    }
    return chosen.choice(choices[kind])


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return value[1:] if isinstance(value, str) and value.startswith("@") else json.dumps(value)


def parameters(chosen: random.Random) -> list[tuple[str, str]]:
    pairs = {
        "local_alias": chosen.choice(ALIASES),
        "remote_alias": chosen.choice(ALIASES),
        "vendor": chosen.choice(TEXTS),
        "remote_display_name": chosen.choice(TEXTS),
        "protocol": chosen.choice(("sip", "webrtc", "")),
        "registered": chosen.choice(("True", "False", "")),
        "bandwidth": chosen.choice(("0", "128", "768", "")),
        "remote_address": chosen.choice(ADDRESSES),
        "proxy_node_address": chosen.choice(ADDRESSES),
        "location": chosen.choice(("Oslo", "Paris")),
        "call_direction": "dial_in",
    }
    return [(name, value) for name, value in pairs.items() if value or chosen.random() < 0.3]


def agree(kind: Kind, decision: Decision, verdict: Verdict) -> bool:
    if verdict.dropped or verdict.action != (
        decision.action if kind != "media_location" else "continue"
    ):
        return False
    if isinstance(decision, Continue):
        return not verdict.changed
    return bool(verdict.result == json.loads(decision.result or b"{}"))


def check(path: Path, seed: int, kind: Kind, calls: int) -> None:
    """Compare the decisions of a configuration and of its script."""
    chosen = random.Random(seed)
    written = configuration(chosen, kind)
    path.write_text(written)
    policy = make_policy(path)
    script = export(policy, kind)
    asyncio.run(compared(policy, script, kind, calls, chosen, written))


async def compared(
    policy: Policy, script: str, kind: Kind, calls: int, chosen: random.Random, written: str
) -> None:
    endpoint = ENDPOINTS[ENDPOINT_OF[kind]]
    async with ScriptPool(1, 20.0).running() as pool, policy.serving():
        found = await lint(pool, script, kind)
        assert not [str(one) for one in found if one.level == "error"], script
        for _ in range(calls):
            request = endpoint.parse(MultiDict(parameters(chosen)), "")
            ours = (await decide(policy, request)).decision
            others = {"service_config": ROOM}
            if kind == "media_location":
                others["suggested_media_overflow_locations"] = SUGGESTED
            given = from_request(kind, request, **others)
            rendering = await pool.run(Job(script, given.variables))
            verdict = judge(given, rendering)
            told = f"{ours!r} {verdict}\n{dict(request.params)}\n{written}\n{script}"
            assert agree(kind, ours, verdict), told


@pytest.mark.parametrize("kind", ["service", "participant", "media_location"])
def test_a_script_decides_as_its_configuration(tmp_path: Path, kind: Kind) -> None:
    for seed in range(4):
        check(tmp_path / "config.toml", seed, kind, 20)


def test_the_normal_form_of_an_alias(render: Render) -> None:
    chosen = random.Random(3)
    expressions = Expressions("service")
    name = expressions.value(subject("local_alias"))
    user, host = (expressions.value(subject(f"local_alias.{part}")) for part in ("user", "host"))
    script = "".join(expressions.preamble.values())
    script += f"{{{{ [{name}, {user}, {host}]|pex_to_json }}}}"
    pieces = ("sip:", "tel:", "h323:", "Bob", "@", "host.example", ".", ":5060", ";x=y", "?a", " ")
    more = ("[2001:db8::1]", "10.0.0.1", "+47", "-", "a", "9", ":")
    others = ["".join(chosen.choices((*pieces, *more), k=4)) for _ in range(300)]
    differing = []
    for raw in (*ALIASES, *others):
        done = render(script, call_info={"local_alias": raw})
        alias = Alias(raw)
        if json.loads(done.text) != [str(alias), alias.user, alias.host]:
            differing.append(raw)
    assert not {*differing} & {*ALIASES}
    assert len(differing) < 5, differing


LONG = ("a" * 22, "a" * 40, "a" * 249 + "b", "ab" * 20)
RULE = """
[[plugins.rules.settings.rules]]
name = "One"
endpoint = "service_configuration"
when = {{ {} }}
then = {}
"""


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            RULE.format('peer = "10.0.0.1"', '"reject"'),
            "rule 'One': a service script does not know peer",
        ),
        (
            RULE.format('"params" = { "x" = "1" }', '"reject"'),
            "rule 'One': params.x may have several",
        ),
        (
            RULE.format('ms_subnet = "1"', '"reject"'),
            "rule 'One': ms_subnet may have several values",
        ),
        (RULE.format('third_party_passcode = "1"', '"reject"'), "is a secret"),
        (RULE.format('remote_alias = { scheme = "sip" }', '"reject"'), "the scheme of an alias"),
        (RULE.format('vendor = "stra\u00dfe\u00e6"', '"reject"'), "is not ASCII"),
        (RULE.format("vendor = { regex = '(a|aa)+b' }", '"reject"'), "has '+b' at character 7"),
        (
            RULE.format("time = { zone = 'UTC', weekdays = ['monday'] }", '"reject"'),
            "has nothing like it",
        ),
        (RULE.format("vendor = { glob = '*a*b*c*' }", '"reject"'), "at most three repetitions"),
        (RULE.format("vendor = { regex = '[[:alpha:]]' }", '"reject"'), "whose counterpart"),
        (RULE.format("remote_address = { in_subnet = '::/0' }", '"reject"'), "written as IPv6"),
        (RULE.format('vendor = { value_of = "location" }', '"reject"'), "has nothing like it"),
        (
            RULE.format('vendor = "x"', '{ result = { name = "{vendor}", service_tag = "" } }'),
            "rule 'One': its answer has placeholders",
        ),
        ('[plugins.rooms.settings.rooms.a]\nname = "A"\n', "rooms: it answers too"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, config: str, reason: str) -> None:
    (tmp_path / "config.toml").write_text(config)
    done = local_policy("export", "--config", tmp_path / "config.toml")
    assert (done.exit_code, done.stdout) == (65, "")
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("(.|a)+b", "'+b' at character 6"),
        ("(a?b?)+", "'+' at"),
        ("(a{1,2}){9}", "'a{1,2}){'"),
        ("a*b+c{2}d*e+", "at most three repetitions"),
        ("(a*b*)(c*d*)", "at most three repetitions"),
        ("a?" * 23, "few choices with them"),
        ("(a|aa)" * 23, "few choices with them"),
        ("a{2}{3}", "a{2}{3}"),
        ("[+-9]", "[+-9]"),
        ("\\b", "\\\\b"),
        ("[^\\D]", "[^"),
    ],
)
def test_a_pattern_that_can_take_long_is_refused(source: str, reason: str) -> None:
    with pytest.raises(NotExportedError, match=re.escape(reason)):
        python_pattern(source, case_sensitive=False)


@pytest.mark.parametrize(
    "source",
    [
        "(meet|room)[.-].*(@.*)?",
        "(?:a|[b-d]|\\d)x",
        "\\d{3}-[\\d]+",
        "[^.a-]+[skK-]",
        "(a|aa)?b",
        "a*a+a{2}",
        "a?" * 22,
        "(org|com).*@.*x",
        "(a|aa)" * 22,
    ],
)
def test_a_pattern_that_is_taken_means_the_same(source: str) -> None:
    for sensitive in (True, False):
        ours = Pattern(source, case_sensitive=sensitive)
        made = re.compile(python_pattern(source, case_sensitive=sensitive))
        for text in ("", "aax", "AAX", "a1dX", "123-456", "aab", "meet.a@b", "com1@2x3", *LONG):
            assert ours.matches(text) == bool(made.search(text)), text


def test_a_script_that_is_too_long_is_refused(tmp_path: Path) -> None:
    rules = [
        {"name": f"{n}", "endpoint": "media_location", "then": {"result": {"location": "A" * 200}}}
        for n in range(250)
    ]
    config = tmp_path / "config.toml"
    config.write_text(f"[plugins.rules.settings]\nrules = {toml(rules)}\n")
    done = local_policy("export", "--kind", "media_location", "--config", config)
    assert done.exit_code == 65
    assert "Infinity stores 49,152" in done.stderr


def test_a_configuration_that_cannot_be_used_exits_with_2(tmp_path: Path) -> None:
    assert local_policy("export", "--config", tmp_path / "absent.toml").exit_code == 2
