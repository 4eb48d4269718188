"""Scripts that try to leave the sandbox, or to use more than they may."""

import time
from collections.abc import Callable

import pytest

from pexpolicy_local_policy.script_process import Rendering
from tests.support.waiting import HANG_S

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
    # Ways around the checks of a sandbox: indirect formats, filters and names made while it runs.
    "{{ '{0.__class__}'.format.__call__(1) }}",
    "{{ ('{0.__cl' + 'ass__}').format(1) }}",
    "{{ '{a.__class__}'.format(a=pex_now()) }}",
    "{{ '{0._text}'.format(pex_now()) }}",
    "{{ '{0[__class__]}'.format({}) }}",
    "{{ ['{0.__class__.__base__}'.format][0](1) }}",
    "{{ {'f': '{0.__class__}'.format}.f(1) }}",
    "{{ dict(f='{0.__class__}'.format).get('f')(1) }}",
    "{% macro m(f) %}{{ f(1) }}{% endmacro %}{{ m('{0.__class__}'.format) }}",
    "{{ '{0.__class__}'|attr('format')(1) }}",
    "{{ '%s'|format(pex_now.__func__) }}",
    "{{ ''['__cl' ~ 'ass__'] }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ call_info['__class__']['__mro__'] }}",
    "{{ call_info.get.__self__.__class__ }}",
    "{{ [].extend.__self__.__class__ }}",
    "{{ [1]|first|attr('real')|attr('__class__') }}",
    "{{ ['a']|map('attr', '__class__')|join }}",
    "{{ [{}]|sort(attribute='__class__')|join }}",
    "{{ [{}]|groupby('__class__')|join }}",
    "{{ [{}]|selectattr('__class__')|join }}",
    "{{ [{}]|sum(attribute='__class__') }}",
    "{{ ['a']|join('', attribute='__class__') }}",
    "{{ ['a']|join('', '__class__') }}",
    "{{ [{}]|join(attribute='__class__.__base__') }}",
    "{{ ''|pex_to_json.__globals__ }}",
    "{{ pex_debug_log.__self__ }}",
    "{{ pex_debug_log.__func__.__globals__ }}",
    "{{ pex_in_subnet.__module__ }}",
    "{{ pex_uuid4.__globals__['os'] }}",
    "{{ pex_regex_search('(a)', 'a').__class__ }}",
    "{{ pex_regex_search.__code__.co_filename }}",
    "{{ pex_now().__class__.__init__.__globals__ }}",
    "{{ pex_now()['__class__'] }}",
    "{{ pex_now('../../../etc/passwd') }}",
    "{{ pex_now('/etc/passwd') }}",
    "{{ loop.__class__ }}{% for a in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% for a in [1] %}{{ loop._iterator.gi_frame }}{{ loop._undefined }}{% endfor %}",
    "{% for a in [1] recursive %}{{ loop.__call__.__globals__ }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}{{ m._environment }}",
    "{% macro m() %}{{ varargs.__class__ }}{{ kwargs.__class__ }}{% endmacro %}{{ m(1, a=2) }}",
    "{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n.__class__ }}",
    "{% set n = namespace() %}{{ n._Namespace__attrs }}",
    "{{ cycler('a').__init__.__globals__ }}{{ cycler('a').items.__class__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__init__.__globals__ }}",
    "{{ nothing.__class__ }}",
    "{{ nothing._fail_with_undefined_error.__globals__ }}",
    "{{ nothing._undefined_exception.__mro__ }}",
    "{{ get_flashed_messages.__globals__ }}{{ url_for.__globals__ }}{{ config }}",
    "{{ environment.globals }}{{ context.environment }}{{ resolve('os') }}",
    "{% from 'os' import system %}{{ system('id') }}",
    "{% import '/etc/passwd' as x with context %}",
    "{% block a %}{{ super.__globals__ }}{% endblock %}",
    "{% autoescape true %}{{ ''.__html__.__globals__ }}{% endautoescape %}",
    "{% filter attr('__class__') %}a{% endfilter %}",
    "{% set x %}a{% endset %}{{ x.__class__ }}{{ x.unescape.__globals__ }}",
    "{{ ('a'|striptags).__class__ }}",
    "{{ 'a'|pex_regex_replace('a', '{0.__class__}')|format(1) }}",
    "{{ open('/etc/passwd').read() }}{{ eval('1') }}{{ __import__('os') }}",
    "{{ range.__self__ }}{{ range(1).__reduce__() }}",
    "{{ (1).__add__.__self__ }}{{ true.__class__ }}{{ none.__class__ }}",
    "{% trans %}a{% endtrans %}{% do [].append(1) %}{% debug %}",
]
DOUBLED = (
    "{% set n = namespace(v=[1], w=[1]) %}"
    "{% for i in range(60) %}{% set n.v = [n.v, n.v] %}{% endfor %}"
)
DOUBLED_W = "{% for i in range(60) %}{% set n.w = [n.w, n.w] %}{% endfor %}"
BOMBS = [
    "{{ 'a' * 10 ** 10 }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 10 ** (10 ** 8) }}",
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
    "{{ 'a'.center(10 ** 10) }}",
    "{{ '\\t'.expandtabs(10 ** 10) }}",
    "{{ 'a'.zfill(10 ** 10) }}",
    "{{ ('a' * 9 ** 6).replace('a', 'a' * 9 ** 6) }}",
    "{{ ('a' * 9 ** 6)|replace('a', 'a' * 9 ** 6) }}",
    "{{ ('a' * 9 ** 6)|pex_regex_replace('a', 'b' * 9 ** 6) }}",
    "{{ '%.1000000000f'|format(1) }}",
    "{{ 2 ** (2 ** 40) }}",
    "{{ 9 ** (9 ** 6) }}",
    "{{ ''|pex_random_pin(10 ** 10) }}",
    "{% set a = [1] %}{% for i in range(60) %}{% if a.extend(a) %}{% endif %}{% endfor %}",
    "{% set a = [1] %}{% if a.extend([a]) %}{% endif %}{{ a|pex_to_json }}",
    "{% set a = [] %}{% for x in [1] %}{% if a.append(a) %}{% endif %}{% endfor %}{{ a == [a] }}",
    "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{% for a in range(99999) %}{{ pex_debug_log('a' * 99999) }}{% endfor %}",
    "{% set n = namespace(v=1) %}{% for i in range(9999) %}{%set n.v={1:n.v}%}{% endfor %}{{n.v}}",
    "{{ pex_in_subnet('10.0.0.1', range(99999)) }}",
    "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
    "{{ " + "1 + " * 20_000 + "1 }}",
    "{{ 'a'" + "|lower" * 8_000 + " }}",
    "{% set a = 1 %}" * 3_000,
]


def test_two_hundred_are_tried() -> None:
    assert len({*ESCAPES, *BOMBS}) >= 200


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_leaves_the_sandbox(render: Render, source: str) -> None:
    done = render(source)
    assert not any(word in done.text for word in LEAKS), done.text


@pytest.mark.parametrize("source", BOMBS)
def test_what_is_too_much_ends_in_time(render: Render, source: str) -> None:
    began = time.monotonic()
    done = render(source, seconds=0.5)
    assert time.monotonic() - began < HANG_S
    assert len(done.text) <= 200_100
    assert render("{{ 1 }}").text == "1"
