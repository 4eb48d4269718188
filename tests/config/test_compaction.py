"""A copy of a document that shares nothing with it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.config.loader import BATCH, compact_copy

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.dates()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def containers(value: Any) -> set[int]:
    """The identities of everything that can be changed."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {id(value)} if isinstance(value, dict | list) else set()
    return own.union(*(containers(item) for item in inner))


@given(st.dictionaries(st.text(max_size=3), VALUES))
def test_a_copy_is_equal_and_shares_nothing(document: dict[str, Any]) -> None:
    copy = compact_copy(document)
    assert copy == document
    assert list(copy) == list(document)
    assert not containers(copy) & containers(document)


def test_the_tables_of_a_piece_share_their_keys() -> None:
    rooms = {str(place): {"service_tag": str(place)} for place in range(3 * BATCH)}
    copy = compact_copy({"plugins": {"rooms": rooms}})
    assert copy == {"plugins": {"rooms": rooms}}
    tables = copy["plugins"]["rooms"].values()
    assert len({id(name) for table in tables for name in table}) <= 3
