"""Hypothesis strategies for conditions and requests that often match."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy import ParticipantPropertiesRequest
from pexpolicy.matching import Condition, When, compile_when

Written = dict[str, Any]
Pairs = list[tuple[str, str]]

TEXTS = st.text("aAbB.1@", min_size=1, max_size=4)
PATTERNS = st.sampled_from(["a.*", "(a|b)+", "[ab.]*1?", ".", ".*@.*", "a{1,2}b?", "(?:a)(b)?.*"])
GLOBS = st.text("aAb*?.@", min_size=1, max_size=4)
NETWORKS = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "10.1.2.3", "::/0"])
ADDRESSES = st.sampled_from(
    ["10.0.0.1", "10.1.2.3", "11.0.0.1", "2001:db8::1", "::ffff:10.1.2.3", "fe80::1%eth0", "abc"]
)
NUMBERS = st.integers(-2, 3)

OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "equals": TEXTS,
    "one_of": st.lists(TEXTS, min_size=1, max_size=3),
    "prefix": TEXTS | st.lists(TEXTS, min_size=1, max_size=2),
    "suffix": TEXTS | st.lists(TEXTS, min_size=1, max_size=2),
    "contains": TEXTS,
    "glob": GLOBS,
    "regex": PATTERNS,
    "in_subnet": NETWORKS | st.lists(NETWORKS, min_size=1, max_size=2),
    "greater": NUMBERS,
    "less": NUMBERS,
}
NEGATED = {f"not_{name}": operands for name, operands in OPERANDS.items()}
ON_TEXT = {**OPERANDS, **NEGATED, "exists": st.booleans()}


def operators(known: dict[str, st.SearchStrategy[Any]], **more: Any) -> st.SearchStrategy[Written]:
    """Return a strategy for a table of one or two operators."""
    one = st.sampled_from(sorted(known)).flatmap(
        lambda name: known[name].map(lambda operand: {name: operand})
    )
    both = st.tuples(one, one).map(lambda pair: pair[0] | pair[1])
    return st.builds(lambda table, extra: table | extra, one | both, st.fixed_dictionaries(more))


ON_NUMBER = {
    name: NUMBERS if "one_of" not in name else st.lists(NUMBERS, min_size=1, max_size=2)
    for name in ("equals", "not_equals", "one_of", "not_one_of", "greater", "less", "not_less")
}
TEXT = operators(ON_TEXT) | operators(ON_TEXT, case_sensitive=st.just(value=True))
VALUES = operators(ON_TEXT, values=st.sampled_from(["any", "all"]))
ALIAS = operators(ON_TEXT) | st.sampled_from(["user", "host", "raw"]).flatmap(
    lambda part: operators(ON_TEXT).map(lambda table: {part: table})
)
SUBJECTS: dict[str, st.SearchStrategy[Any]] = {
    "local_alias": ALIAS,
    "vendor": TEXT,
    "remote_address": operators({"in_subnet": OPERANDS["in_subnet"]}) | TEXT,
    "bandwidth": operators(ON_NUMBER),
    "registered": st.booleans(),
    "idp_attributes": VALUES.map(lambda table: {"group": table}),
    "params": VALUES.map(lambda table: {"odd-name": table}),
}


def _alternatives(inner: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    nested = st.lists(inner, min_size=1, max_size=2)
    return st.builds(
        lambda table, key, parts: {**table, key: parts},
        inner,
        st.sampled_from(["all", "any", "none"]),
        nested,
    )


FLAT = st.sets(st.sampled_from(sorted(SUBJECTS)), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: SUBJECTS[name] for name in sorted(names)})
)
WHENS = st.recursive(FLAT, _alternatives, max_leaves=4)

PAIRS: st.SearchStrategy[Pairs] = st.builds(
    lambda *groups: [pair for group in groups for pair in group],
    st.lists(st.tuples(st.just("local_alias"), TEXTS | TEXTS.map("sip:{}".format)), max_size=1),
    st.lists(st.tuples(st.just("vendor"), TEXTS), max_size=1),
    st.lists(st.tuples(st.just("remote_address"), ADDRESSES), max_size=1),
    st.lists(st.tuples(st.just("bandwidth"), NUMBERS.map(str) | st.just("x")), max_size=1),
    st.lists(st.tuples(st.just("registered"), st.sampled_from(["True", "False"])), max_size=1),
    st.lists(
        st.tuples(st.sampled_from(["idp_attribute_group", "idp_attribute_Group"]), TEXTS),
        max_size=3,
    ),
    st.lists(st.tuples(st.just("odd-name"), TEXTS | st.sampled_from(["1", "2.5", ""])), max_size=2),
)


def compiled(when: Written) -> Condition:
    """Return the condition of a table."""
    return compile_when(When.model_validate(when), clock=lambda: 0.0)


def asked(pairs: Pairs) -> ParticipantPropertiesRequest:
    """Return a request with these parameters."""
    return ParticipantPropertiesRequest(MultiDict(pairs))
