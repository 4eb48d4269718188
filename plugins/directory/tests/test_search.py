"""Which entries a search finds, and in which order."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy_directory.index import Entry, SearchIndex, folded

Search = Callable[..., list[str]]

PEOPLE = [
    {"alias": "ase@example.com", "name": "Åse Ødegård", "keywords": "reception front desk"},
    {"alias": "anna@example.com", "name": "Anna Berg"},
    {"alias": "annabel@example.com", "name": "Annabel Moe", "username": "amoe"},
    {"alias": "per@example.com", "name": "Per Hanna"},
    {"alias": "bo@example.com", "name": "Bo Anna Vik"},
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("anna berg", ["anna"]),
        ("Anna", ["anna", "annabel", "bo", "per"]),
        ("anna v", ["bo"]),
        ("vik anna", ["bo"]),
        ("amoe", ["annabel"]),
        ("ase@example.com", ["ase"]),
        ("sip:ase@example.com", []),
        ("ase", ["ase"]),
        ("ODEGARD", ["ase"]),
        ("Ødegård", ["ase"]),
        ("desk", ["ase"]),
        ("hana", ["per"]),
        ("ahnna", ["anna", "bo", "per"]),
        ("berk", ["anna"]),
        ("zzzz", []),
        ("b", ["bo", "anna"]),
        ("", ["anna", "annabel", "ase", "bo", "per"]),
        ("  ", ["anna", "annabel", "ase", "bo", "per"]),
        ("?!", ["anna", "annabel", "ase", "bo", "per"]),
    ],
)
def test_equal_first_then_prefix_word_and_similar(
    search: Search, text: str, names: list[str]
) -> None:
    found = search({"entries": PEOPLE}, text)
    assert [alias.partition("@")[0] for alias in found] == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Fatma Y\N{LATIN SMALL LETTER DOTLESS I}ld\N{LATIN SMALL LETTER DOTLESS I}z", "yildiz"),
        ("Fatma Y\N{LATIN SMALL LETTER DOTLESS I}ld\N{LATIN SMALL LETTER DOTLESS I}z", "YILDIZ"),
        ("İnci", "inci"),
        ("Ǿrsted", "orsted"),
        ("Máret Ŧuŋŋe", "tunne"),
        ("Room A_Berg", "berg"),
        ("Straße", "strasse"),
        ("Mar\u02bcyana O\u2019Neil", "mar'yana o'neil"),
    ],
)
def test_case_accents_and_punctuation_do_not_matter(search: Search, name: str, text: str) -> None:
    entries = [{"alias": "it@example.com", "name": name}]
    assert search({"entries": entries}, text) == ["it@example.com"]


def test_what_is_equal_is_in_the_order_of_names(search: Search) -> None:
    entries = [
        {"alias": "c@example.com", "name": "Bo"},
        {"alias": "b@example.com", "name": "Bo Dahl"},
        {"alias": "a@example.com", "name": "Anna", "username": "bo"},
        {"alias": "bo", "name": "Zoe"},
    ]
    found = ["a@example.com", "c@example.com", "bo", "b@example.com"]
    assert search({"entries": entries}, "bo") == found


def test_limit_and_ignore_local_are_honoured(search: Search) -> None:
    assert len(search({"entries": PEOPLE}, "", limit="2")) == 2
    assert search({"entries": PEOPLE}, "", limit="0") == []
    assert len(search({"entries": PEOPLE}, "", limit=str(2**63))) == 5
    assert len(search({"entries": PEOPLE, "limit": 3}, "")) == 3


def test_who_searches_sees_the_entries_of_its_groups(search: Search) -> None:
    settings = {
        "groups": {"staff": ["@example.com", "Guest@Partner.example"], "board": ["chair@x.org"]},
        "entries": [
            {"alias": "all@x.org", "name": "All"},
            {"alias": "staff@x.org", "name": "Staff", "groups": ["staff"]},
            {"alias": "both@x.org", "name": "Both", "groups": ["board", "staff"]},
        ],
    }

    def seen(text: str, by: str) -> list[str]:
        found = search(settings, text, registration_alias=by)
        return [alias.partition("@")[0] for alias in found]

    for text in ("", "x.org"):
        assert seen(text, "sip:Anna@example.com") == ["all", "both", "staff"]
        assert seen(text, "guest@partner.example") == ["all", "both", "staff"]
        assert seen(text, "chair@x.org") == ["all", "both"]
        assert seen(text, "other@partner.example") == seen(text, "") == ["all"]


def test_entries_come_from_a_csv_file(search: Search, folder: Path) -> None:
    (folder / "people.csv").write_text(
        "alias,name,username,keywords,groups\nClinic@Example.com,Clinic,,ward,a|b\n"
    )
    settings: dict[str, Any] = {"csv": "people.csv", "groups": {"a": ["@x.org"], "b": []}}
    assert search(settings, "ward", registration_alias="y@x.org") == ["Clinic@Example.com"]
    assert search(settings, "clinic@example.com", registration_alias="y@x.org") != []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"entries": [{"alias": "a@b", "name": "A", "groups": ["stuff"]}]}, "no group 'stuff'"),
        ({"entries": [{"alias": "sip:", "name": "A"}]}, "is not an alias"),
        ({"entries": [{"alias": "a@b"}]}, "entries[0].name"),
        ({"csv": "none.csv"}, "cannot be read"),
        ({"entry": []}, "entry: unknown key"),
    ],
)
def test_a_mistake_is_reported_with_its_key(
    problems: Callable[[dict[str, Any]], list[str]], settings: dict[str, Any], says: str
) -> None:
    (found,) = problems(settings)
    assert says in found


names = st.text(st.sampled_from("abÅøc 'é-中"), min_size=1, max_size=12)


@given(st.lists(names, max_size=8), st.text(max_size=12))
def test_a_search_never_fails_and_finds_whole_names(listed: list[str], text: str) -> None:
    entries = [Entry(alias=f"{n}@x.org", name=name) for n, name in enumerate(listed)]
    index = SearchIndex(entries)
    assert len(index.find(text, 5)) <= 5
    for number, name in enumerate(listed):
        if folded(name):
            found = index.find(name, 100)
            assert folded(found[0].name) == folded(name)
            assert f"{number}@x.org" in [entry.alias for entry in found]


def test_a_search_in_many_entries_is_quick() -> None:
    first = [f"{a}{b}n{c}" for a in "abcdefghij" for b in "aeiou" for c in "aeo"]
    entries = [
        Entry(
            alias=f"p{n}@example.com", name=f"{first[n % 150]} {first[n // 150 % 150]}son{n % 97}"
        )
        for n in range(20_000)
    ]
    index = SearchIndex(entries)
    slowest = 0.0
    for text in ("", "a", "an", "ana", "ana b", "bon can", "anx", "p19999", "banosno1", "e e e e"):
        best = min(_seconds(index, text) for _ in range(3))
        slowest = max(slowest, best)
    assert slowest < 0.05


def test_typing_errors_cost_little_where_names_have_thousands_of_letters() -> None:
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    listed = ["".join(letters[n : n + 3]) for n in range(0, 3000, 3)]
    index = SearchIndex(
        Entry(alias=f"p{n}@x.org", name=name) for n, name in enumerate([*listed, "z" * 200])
    )
    for text in ("".join(letters[:200]), "z" * 199, "ab" * 100, "annabe" * 1000):
        assert _seconds(index, text) < 0.5
    assert [entry.name for entry in index.find(f"{listed[5]}z", 10)] == [listed[5]]


def _seconds(index: SearchIndex, text: str) -> float:
    began = time.thread_time()
    index.find(text, 10)
    return time.thread_time() - began
