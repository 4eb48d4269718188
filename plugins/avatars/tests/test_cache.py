"""The cache and its limits, and the sharing of fetches."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy_avatars.sources import OVERHEAD, Cache, Entry, SingleFlight


def test_what_was_not_used_for_longest_is_removed() -> None:
    cache: Cache[str, int] = Cache(60, 3 * (OVERHEAD + 10), clock=lambda: 0.0)
    for key in "abc":
        cache.put(key, Entry(1, 0.0), 10)
    assert cache.get("a") is not None
    cache.put("d", Entry(1, 0.0), 10)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    cache.put("e", Entry(1, 0.0), 3 * (OVERHEAD + 10) + 1)
    assert [key for key in "abcde" if cache.get(key)] == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000), st.booleans())))
def test_the_cache_is_never_larger_than_its_limit(steps: Sequence[tuple[int, int, bool]]) -> None:
    cache: Cache[int, int] = Cache(60, 5000, clock=lambda: 0.0)
    sizes: dict[int, int] = {}
    for key, size, is_read in steps:
        if is_read:
            entry = cache.get(key)
            assert entry is None or entry.value == sizes[key]
        else:
            cache.put(key, Entry(size, 0.0), size)
            sizes[key] = size
        left = [sizes[key] for key in cache._entries]
        assert cache.used == sum(left) + OVERHEAD * len(left) <= 5000


async def test_an_error_reaches_all_callers_and_is_not_kept() -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    calls = 0

    async def fetch() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise ValueError("down")
        return calls

    results = await asyncio.gather(
        *(flight.run("a", fetch) for _ in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["down"] * 3
    assert await flight.run("a", fetch) == 2
    assert len(flight) == 0


async def test_closing_cancels_what_is_in_progress() -> None:
    flight: SingleFlight[int, None] = SingleFlight()
    waiting = asyncio.create_task(flight.run(1, asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await flight.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(flight) == 0
