"""Lookups: what is asked, what is kept, and for how long."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from pexpolicy import Alias
from pexpolicy_sources import (
    Answer,
    DataSource,
    DataSourceSettings,
    Found,
    Lookup,
    QueryError,
    SourceError,
    SourceUnavailableError,
    Value,
)
from tests.support.waiting import HANG_S


class Memory(DataSource[DataSourceSettings, str]):
    """A source with rows in memory, a clock that a test sets, and failures."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(DataSourceSettings.model_validate(keys))
        self.now = 0.0
        self.clock = lambda: self.now
        self.asked: list[Mapping[str, Value]] = []
        self.failure: SourceError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.numbers: dict[Value, int] = {"anna": 1}

    @override
    def prepare(self, query: str, parameters: Collection[str]) -> str:
        return query

    @override
    async def fetch(
        self, query: str, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        self.asked.append(parameters)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        number = self.numbers.get(parameters["key"])
        return Answer([] if number is None else [{"number": number}])

    @override
    async def fetch_all(self, query: str, previous: Answer | None) -> Answer:
        return Answer([{"number": number} for number in self.numbers.values()])

    def by_key(self) -> Lookup[str]:
        return self.lookup("numbers", ["key"])


async def test_answers_and_misses_are_kept_for_refresh_after() -> None:
    async with Memory(refresh_after=10) as source:
        lookup = source.by_key()
        for _ in range(3):
            assert (await lookup.ask(key="anna")).rows == [{"number": 1}]
            assert (await lookup.ask(key="bob")).rows == []
        assert len(source.asked) == 2
        source.numbers["bob"], source.now = 2, 10.5
        assert (await lookup.ask(key="bob")) == Found([{"number": 2}], 0.0)


async def test_a_plugin_may_keep_the_answers_itself() -> None:
    async with Memory(entries=5) as source:
        kept, not_kept = source.by_key(), source.lookup("numbers", ["key"], entries=0)
        assert source.lookup("numbers", ["key"], entries=9) is kept
        for lookup in (kept, not_kept) * 2:
            assert (await lookup.ask(key="anna")) == Found([{"number": 1}], 0.0)
        assert (kept.fetches, not_kept.fetches, len(kept), len(not_kept)) == (1, 2, 1, 0)


async def test_an_answer_is_stale_up_to_max_age_and_no_longer() -> None:
    async with Memory(refresh_after=10, max_age=100) as source:
        lookup = source.by_key()
        await lookup.ask(key="anna")
        source.failure, source.now = SourceUnavailableError("down"), 99.0
        assert await lookup.ask(key="anna") == Found([{"number": 1}], 99.0)
        source.now = 101.0
        with pytest.raises(SourceUnavailableError, match="down"):
            await lookup.ask(key="anna")


async def test_a_failure_is_never_kept() -> None:
    async with Memory() as source:
        source.failure = QueryError("refused")
        with pytest.raises(QueryError, match="refused"):
            await source.by_key().ask(key="anna")
        source.failure = None
        assert (await source.by_key().ask(key="anna")).rows


async def test_a_source_that_is_down_is_asked_once_a_second() -> None:
    async with Memory(refresh_after=0) as source:
        lookup = source.by_key()
        source.failure = SourceUnavailableError("down")
        for _ in range(50):
            with pytest.raises(SourceUnavailableError):
                await lookup.ask(key="anna")
        assert len(source.asked) == 3
        source.now = 1.1
        with pytest.raises(SourceUnavailableError):
            await lookup.ask(key="anna")
        assert len(source.asked) == 4
        source.failure, source.now = None, 2.2
        for _ in range(2):
            assert (await lookup.ask(key="anna")).rows
        assert lookup.problem == ""


async def test_a_refused_query_stops_no_other_one() -> None:
    async with Memory(refresh_after=0) as source:
        lookup = source.by_key()
        source.failure = QueryError("refused")
        for _ in range(20):
            with pytest.raises(QueryError):
                await lookup.ask(key="nonsense")
        source.failure = None
        assert (await lookup.ask(key="anna")).rows


async def test_calls_for_the_same_key_share_one_query_also_if_the_first_is_cancelled() -> None:
    async with Memory() as source:
        lookup = source.by_key()
        source.gate.clear()
        calls = [asyncio.create_task(lookup.ask(key="anna")) for _ in range(10)]
        await asyncio.sleep(0.01)
        calls[0].cancel()
        await asyncio.sleep(0.01)
        source.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [Found([{"number": 1}], 0.0)] * 9
        assert len(source.asked) == 1


async def test_a_call_waits_for_timeout_at_most() -> None:
    async with Memory(timeout=0.05) as source:
        source.gate.clear()
        async with asyncio.timeout(HANG_S):
            with pytest.raises(SourceUnavailableError, match=r"no answer within 0\.05 s"):
                await source.by_key().ask(key="anna")


@given(keys=st.lists(st.integers(0, 9), max_size=60), entries=st.integers(1, 5))
def test_the_entries_that_were_used_last_are_kept(keys: list[int], entries: int) -> None:
    async def run() -> None:
        async with Memory(entries=entries) as source:
            lookup = source.by_key()
            kept: list[int] = []
            for key in keys:
                count = len(source.asked)
                await lookup.ask(key=key)
                assert (len(source.asked) == count) is (key in kept)
                kept = [*(k for k in kept if k != key), key][-entries:]
            assert len(lookup) == len(kept)

    asyncio.run(run())


async def test_plugins_with_the_same_query_share_its_answers() -> None:
    async with Memory() as source:
        await source.by_key().ask(key="anna")
        await source.by_key().ask(key=Alias("sip:Anna"))
        assert len(source.asked) == 1
        assert type(source.asked[0]["key"]) is str


async def test_text_that_no_source_can_hold_is_not_asked_for() -> None:
    async with Memory() as source:
        for text in ("a\0b", "\ud800"):
            assert not (await source.by_key().ask(key=text)).rows
        assert not source.asked


async def test_other_parameters_are_an_error_of_the_plugin() -> None:
    async with Memory() as source:
        with pytest.raises(TypeError, match="takes key, not alias"):
            await source.by_key().ask(alias="anna")


async def test_closing_ends_the_queries_that_run() -> None:
    async with Memory(timeout=5) as source:
        source.gate.clear()
        call = asyncio.create_task(source.by_key().ask(key="anna"))
        await asyncio.sleep(0.01)
    async with asyncio.timeout(HANG_S):
        with pytest.raises(SourceUnavailableError, match="closed"):
            await call
