"""The filters and functions of Infinity: documented examples and check values."""

import re
from collections.abc import Callable

import pytest

from pexpolicy_local_policy.script_process import Rendering

Render = Callable[..., Rendering]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('"some text"|pex_base64', "c29tZSB0ZXh0"),
        ('"+47 (555) 01-23 x"|pex_clean_phone_number', "+475550123"),
        ('"mysecretkey0000001"|pex_hash|pex_head(7)', "3998472"),
        ('"Example"|pex_head(3)', "Exa"),
        ('"Example"|pex_head(0)', ""),
        ('"Example"|pex_tail(3)', "ple"),
        ('"Example"|pex_tail(0)', ""),
        ('"Example"|pex_tail(30)', "Example"),
        ('"Example"|pex_strlen', "7"),
        ('"Example"|pex_reverse', "elpmaxE"),
        ('"Example"|pex_md5', "0a52730597fb4ffa01fc117d9e71e3a9"),
        (
            '"user1@domainA.com"|pex_regex_replace("@.+", "@otherdomain.com")',
            "user1@otherdomain.com",
        ),
        (r'"12-34"|pex_regex_replace("(\d+)-(\d+)", "\\2-\\1")', "34-12"),
        ('"a b/c"|pex_url_encode', "a%20b%2Fc"),
        ('"a%20b%2Fc"|pex_url_decode', "a b/c"),
        ('{"a": 1}|pex_update({"a": 2, "b": [3]})|pex_to_json', '{"a": 2, "b": [3]}'),
        ('{"n": none, "t": true}|pex_to_json', '{"n": null, "t": true}'),
        ('"ZMlnZBLXTEeZPqO3Su0KGw=="|pex_to_uuid', "6467c964-d712-474c-993e-a3b74aed0a1b"),
        ('pex_in_subnet("10.47.0.1", ["10.47.0.0/16", "10.147.0.0/16"])', "True"),
        ('pex_in_subnet("10.44.0.1", ["10.47.0.0/16", "10.147.0.0/16"])', "False"),
        ('pex_in_subnet("10.201.4.9", ["10.201.5.0/23"])', "True"),
        ('pex_in_subnet("2001:658:22a:cafe::ffff", ["2001::/16"])', "True"),
        ('pex_in_subnet("2001::1", ["10.0.0.0/8"])', "False"),
        ('pex_in_subnet("", ["10.0.0.0/8"])', "False"),
        ('pex_find_first_match(["a1", "b2", "b3"], "^b")', "b2"),
        ('pex_regex_search("([a-z]+)@([a-z.]+)", "to someone@example.com")[1]', "example.com"),
        ('pex_regex_search("(x)", "y")', "False"),
        ('pex_now("Asia/Tokyo").hour', "21"),
        ("pex_now().minute", "0"),
        ('pex_debug_log("a", 1)', ""),
        ("call_info.nothing", ""),
        ("service_config.nothing|lower", ""),
        ('"%s-%s"|format("a", 2)', "a-2"),
    ],
)
def test_examples(render: Render, expression: str, expected: str) -> None:
    rendering = render(f"{{{{ {expression} }}}}")
    assert rendering.failure is None
    assert rendering.text == expected


def test_links_are_decoded(render: Render) -> None:
    safe = (
        "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fpexip.me%2Fteams%2Fa"
        "%3Fb%3D1&data=05%7C01&reserved=0"
    )
    two = "https://urldefense.proofpoint.com/v2/url?u=https-3A__pexip.me_a-3Fb-3D1&d=DwMF&c=x"
    three = "https://urldefense.com/v3/__https://pexip.me/a*b**Ac__;Iw!!abc$"
    source = "{{ call_info.x|pex_safelinks_decode|pex_urldefense_decode }}"
    assert render(source, call_info={"x": f"at {safe}."}).text.startswith(
        "at https://pexip.me/teams/a?b=1"
    )
    assert render(source, call_info={"x": two}).text == "https://pexip.me/a?b=1"
    assert render(source, call_info={"x": three}).text.startswith("https://pexip.me/a#b")
    assert render(source, call_info={"x": "https://pexip.me/a"}).text == "https://pexip.me/a"


def test_random_values_have_their_form(render: Render) -> None:
    text = render('{{ pex_random_pin(6) }} {{ ""|pex_random_pin(20) }} {{ pex_uuid4() }}').text
    assert re.fullmatch(r"\d{6} \d{20} [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)


def test_a_constant_is_not_calculated_while_the_script_is_compiled(render: Render) -> None:
    source = '{{ ""|pex_random_pin(20) }}{% if false %}{{ "a" * 10 ** 10 }}{% endif %}'
    assert render(source).text != render(source).text


def test_debug_lines_are_kept_apart(render: Render) -> None:
    rendering = render('{{ pex_debug_log("Media location policy ", call_info.location) }}')
    assert rendering.debug == ("Media location policy ,Oslo",)
    assert rendering.text == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('{{ "a"|pex_require_min_length(2) }}', "1 characters, and 2 are required"),
        ('{{ "a"|pex_regex_replace("(", "") }}', "pex_regex_replace: '('"),
        ('{{ pex_now("Mars/Olympus") }}', "there is no time zone 'Mars/Olympus'"),
        ('{{ pex_in_subnet("10.0.0.1", ["10.0.0.0/33"]) }}', "pex_in_subnet:"),
        ("{{ pex_random_pin() }}", "the number of digits"),
        ("{{ nothing|pex_to_json }}", "nothing is undefined"),
        ("{{ none|pex_update({}) }}", "pex_update: needs two objects"),
        ('{{ "x"|tojson }}', "No filter named 'tojson'"),
        ("\n{{ nothing.at.all }}", "line 2: 'nothing' is undefined"),
        ('{% include "x" %}', "include: a script is a single text"),
    ],
)
def test_what_a_script_cannot_do(render: Render, source: str, reason: str) -> None:
    failure = render(source).failure
    assert failure is not None
    assert reason in str(failure)
