"""Scripts that try to leave the sandbox, or to use more than they may."""

import time
from collections.abc import Callable

import pytest

from pexpolicy_local_policy.script_process import Rendering

Render = Callable[..., Rendering]
LEAKS = ("subclasses", "<class", "<function", "root:", "/usr/", "os.", "builtins")
ESCAPES = [
    f"{{{{ {start}{way} }}}}"
    for start in (
        "''",
        "[]",
        "{}",
        "1",
        "call_info",
        "pex_now",
        "range",
        "dict",
        "self",
        "namespace()",
    )
    for way in (
        *(".__class__.__mro__[1].__subclasses__()", "['__class__']['__base__']"),
        *(".__init__.__globals__", ".__globals__['os']", ".__call__.__self__"),
        *(".__doc__", ".__dict__", ".__reduce_ex__(2)", ".gi_frame", ".func_globals"),
    )
] + [
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '{0.__class__}'.format_map({'0': 1}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ ['{0.__class__}']|join|format(1) }}",
    "{{ ''|attr('__class__') }}",
    "{{ [1]|map(attribute='__class__')|list }}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id') }}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{{ dict(a=1).__class__.mro() }}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{{ joiner.__init__.__code__ }}",
]
DOUBLED = (
    "{% set n = namespace(v=[1], w=[1]) %}"
    "{% for i in range(60) %}{% set n.v = [n.v, n.v] %}{% endfor %}"
)
DOUBLED_W = "{% for i in range(60) %}{% set n.w = [n.w, n.w] %}{% endfor %}"
BOMBS = [
    "{{ 'a' * 10 ** 10 }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 10 ** 10 ** 8 }}",
    "{{ 'a'.ljust(10 ** 10) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ '%10000000000d'|format(1) }}",
    "{{ ('a' * 50)|pex_regex_replace('(a+)+$b', '') }}",
    "{{ pex_regex_search('(a*)*$b', 'a' * 50) }}",
    "{{ pex_find_first_match(['a' * 50], '(a|a)*$b') }}",
    "{{ range(10 ** 9)|join }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}xxxxxxxxxx{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set n = namespace(v=1) %}{% for i in range(9999) %}{%set n.v=[n.v]%}{% endfor %}{{n.v}}",
    DOUBLED + "{{ n.v|pex_to_json }}",
    DOUBLED + DOUBLED_W + "{{ n.v == n.w }}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a ~ a %}" * 40 + "{{ a|length }}",
    "{{" + "(" * 20_000,
    "{{" + "-" * 20_000 + "1 }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
]


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_leaves_the_sandbox(render: Render, source: str) -> None:
    done = render(source)
    assert not any(word in done.text for word in LEAKS), done.text


@pytest.mark.parametrize("source", BOMBS)
def test_what_is_too_much_ends_in_time(render: Render, source: str) -> None:
    began = time.monotonic()
    done = render(source)
    assert time.monotonic() - began < 4
    assert len(done.text) <= 200_100
    assert render("{{ 1 }}").text == "1"
