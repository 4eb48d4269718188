"""Patterns: limits of time for any pattern and any alias, groups, globs."""

import random
import re
import time
from collections.abc import Iterator

import pytest
from multidict import MultiDict

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import Index, Pattern, PatternError, Replacement, When, compile_when
from pexpolicy.matching.patterns import MAX_PROGRAM, glob, log_once

MAX_MATCH_S = 0.005
"""Maximum duration of one match, in seconds."""
TEXT_BYTES = 8192
_PIECES = ("a", "[ab]", "(a|b)", "(a|a)", ".", "\\w", "(a*)", "(a+)", "(a?)", "(.*)", "[^b]", "\\d")
_REPEATS = ("*", "+", "?", "{1,100}", "{50}", "{0,500}", "{1000}", "*?", "+?", "")
KNOWN_BAD = (
    "(a+)+$",
    "(a|aa)+$",
    "(a|a)*b",
    "(.*a){20}",
    "(.*a){200}",
    "([a-z]+)*@",
    "(a?){500}a{500}",
    "(x+x+)+y",
    "((a{100}){10}){10}",
    "(.*)(.*)(.*)(.*)(.*)x",
    "[ab]*a[ab]{100}",
    ".*a.{300}b",
    "(.{1,250}){4}x",
    "(a*)*(a*)*(a*)*b",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(\\w+\\s?)*:",
    "(?=(a+))a*b\\1",
    "(?<!a)b",
    "(a)\\1",
    "(?>a+)b",
    "a++b",
    "(",
    "[",
    "a{2,1}",
    "*",
    "\\",
    "(?P<n>a)(?P<n>b)",
    "\ud800",
)


def bad_patterns(count: int) -> Iterator[str]:
    """Patterns that are known to be bad, and patterns of nested repetitions."""
    yield from KNOWN_BAD
    dice = random.Random(1)
    for _ in range(count - len(KNOWN_BAD)):
        text = ""
        for _ in range(dice.randint(1, 5)):
            text += dice.choice(_PIECES) + dice.choice(_REPEATS)
            if dice.random() < 0.4:
                text = f"({text}){dice.choice(_REPEATS)}"
        yield text + dice.choice(("", "b", "$", "@x"))


def aliases() -> list[str]:
    """Texts of 8 KB that patterns of this kind find hard."""
    dice = random.Random(2)
    return [
        "a" * TEXT_BYTES,
        "ab" * (TEXT_BYTES // 2),
        "a" * (TEXT_BYTES - 1) + "!",
        "".join(dice.choice("ab") for _ in range(TEXT_BYTES)),
        "".join(dice.choice("abxy @.0") for _ in range(TEXT_BYTES)),
        "\u00e6" * (TEXT_BYTES // 2),
    ]


def quickest(pattern: Pattern, alias: str) -> float:
    """Seconds of processor time of the best of three matches with groups: machines have pauses."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        pattern.groups(alias)
        taken.append(time.thread_time() - began)
    return min(taken)


def worst(count: int) -> tuple[float, int, int]:
    """The slowest match in seconds, and how many patterns were refused and taken."""
    slowest, refused, taken = 0.0, 0, 0
    hard = aliases()
    for written in bad_patterns(count):
        try:
            pattern = Pattern(written)
        except PatternError:
            refused += 1
            continue
        taken += 1
        slowest = max(slowest, *(quickest(pattern, alias) for alias in hard))
    return slowest, refused, taken


def test_a_hundred_bad_patterns_are_refused_or_quick() -> None:
    slowest, refused, taken = worst(100)
    assert slowest < MAX_MATCH_S
    assert refused > 10
    assert taken > 10


def test_even_the_largest_pattern_takes_what_infinity_sends() -> None:
    written = "a?" * (MAX_PROGRAM // 2 - 10)
    assert Pattern(written).matches("a" * 250)
    for letter in ("\u00e6", "\U0001f600"):
        largest = Pattern(written[:-60] + "(.*)")
        assert largest.max_bytes < 250 * len(letter.encode())
        assert largest.matches(letter * 250)
        assert largest.groups(letter * 250) == (letter * 250,)
        assert not largest.matches(letter * 251)
    with pytest.raises(PatternError, match="too large"):
        Pattern(written * 2)


def matching(*written: str) -> Index[str]:
    tables = ({"local_alias": {"regex": one}} for one in written)
    parts = [compile_when(When.model_validate(table)) for table in tables]
    return Index(zip(parts, written, strict=True))


def test_many_patterns_are_limited_by_the_sum_of_their_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = matching(*(f"(a|b)*a(a|b){{14}}{number % 10}x" for number in range(300)), "b*")
    dice = random.Random(3)
    log_once.cache_clear()
    for alias in ("b" * 250, "b" * 251, *("".join(dice.choices("ab", k=n)) for n in (1000, 4000))):
        request = ENDPOINTS["service_configuration"].parse(MultiDict(local_alias=alias))
        began = time.thread_time()
        assert index.first(request) == ("b*" if alias == "b" * 250 else None)
        assert time.thread_time() - began < 0.1
    assert [record.args for record in caplog.records] == [(250,)]  # one line, the first time
    assert index.doubt == ""
    assert matching(*("a{900}" + "b" * number for number in range(300))).doubt


def test_a_small_pattern_takes_eight_kilobytes() -> None:
    assert Pattern("(a|b)*@example.com").matches("ab" * (TEXT_BYTES // 2) + "@example.com")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("a(?=b)", "look-around"),
        ("(a)\\1", "look-around"),
        ("a++", "possessive"),
        ("(", "missing"),
        ("a{1001}", "is too large"),
        ("(a{500}){500}", "too large"),
        ("a{900}b{900}c{900}", "is too large"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_pattern_that_is_refused_says_why(written: str, says: str) -> None:
    with pytest.raises(PatternError, match=says):
        Pattern(written)


def test_the_whole_text_has_to_match() -> None:
    assert not Pattern("b").matches("abc")
    assert Pattern(".*b.*").matches("abc")
    assert Pattern("a.c").matches("a\nc")
    assert not Pattern("abc").matches("abc\n")


def test_groups_come_as_they_were_typed_and_empty_ones_are_empty() -> None:
    pattern = Pattern("(?P<first>[a-z]+)(x)?-(.*)")
    assert pattern.names == ("first", "", "")
    assert pattern.groups("Bob-Caf\u00e9") == ("Bob", "", "Caf\u00e9")
    assert pattern.groups("nothing") is None


def test_each_star_of_a_glob_is_a_group() -> None:
    assert glob("conf-*@*.example.com").groups("CONF-7@eu.example.com") == ("7", "eu")
    assert glob("a.b?").matches("a.bc")
    assert not glob("a.b").matches("axb")


def test_text_that_is_no_unicode_does_not_raise() -> None:
    assert Pattern("a.b").matches("a\udc80b")


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("x*", "\u00e9xb", "-\u00e9--b-"),
        ("", "\u65e5\u672c", "-\u65e5-\u672c-"),
        ("\u00e9", "a\u00e9", "a-"),
    ],
)
def test_an_empty_match_splits_no_character(pattern: str, text: str, expected: str) -> None:
    assert Replacement(pattern, "-").apply(text) == expected == re.sub(pattern, "-", text)
