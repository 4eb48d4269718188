"""What is used of aiohttp though it is not documented: compared at the start, tested here."""

import asyncio
import re
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web

from pexpolicy.server.http.aiohttp_internals import (
    PARSER_ATTRIBUTES,
    PROTOCOL_ATTRIBUTES,
    TESTED_VERSION,
    BoundedHandler,
    forbid,
    require,
)
from tests.support.paths import ROOT

LOCKED = r"^aiohttp==(\S+)"


def test_the_release_that_is_named_is_the_one_that_is_locked_and_installed() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert re.findall(LOCKED, lock, re.MULTILINE) == [TESTED_VERSION]
    assert aiohttp.__version__ == TESTED_VERSION


@pytest.mark.parametrize("missing", [*PROTOCOL_ATTRIBUTES, *PARSER_ATTRIBUTES])
def test_a_part_that_is_gone_is_named_with_the_release_to_install(missing: str) -> None:
    names = (*PROTOCOL_ATTRIBUTES, *PARSER_ATTRIBUTES)
    later = SimpleNamespace(**{name: None for name in names if name != missing})
    later.__name__ = "RequestHandler"
    with pytest.raises(ImportError) as raised:
        require(later, names, "3.99.0")
    assert str(raised.value) == (
        f"aiohttp 3.99.0 cannot be used: its RequestHandler has no {missing}. Install the release "
        f"that pexpolicy was tested with: pip install aiohttp=={TESTED_VERSION}"
    )


def test_a_name_that_aiohttp_takes_is_not_written_over() -> None:
    with pytest.raises(
        ImportError, match=r"3\.99\.0 cannot be used: its RequestHandler also has close"
    ):
        forbid(web.RequestHandler, ("connection", "close"), "3.99.0")

    with pytest.raises(ImportError, match="also has _keepalive"):
        type("Later", (BoundedHandler,), {"__slots__": ("_keepalive",)})


def test_undocumented_parts_are_used_in_one_module() -> None:
    private = sorted(name for name in dir(web.RequestHandler) if re.fullmatch(r"_[a-z]\w*", name))
    assert "_task_handler" in private
    used = re.compile(rf"\b(self|protocol|request\.protocol)\.({'|'.join(private)})\b")
    found = {
        (path.name, name)
        for path in (ROOT / "pexpolicy").rglob("*.py")
        if "web.RequestHandler" in (text := path.read_text("utf-8")) or "BoundedHandler" in text
        for _, name in used.findall(text)
    }
    assert found == {
        ("aiohttp_internals.py", name) for name in ("_messages", "_parser", "_task_handler")
    }


async def test_a_connection_that_is_lost_holds_nothing_of_its_requests() -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    loop = asyncio.get_running_loop()
    protocol = BoundedHandler(web.Server(handler), loop=loop, header_bytes=8192, idle_seconds=5.0)
    protocol.requests.feed_data(b"GET / HTTP/1.1\r\n")
    assert protocol.requests.is_incomplete
    protocol.connection_lost(None)
    assert not protocol.requests.is_incomplete
