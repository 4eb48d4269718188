"""Percent-encoding is decoded once; a plus is a blank in a query and a plus in a path."""

from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from pexpolicy.policy import Policy
from tests.support import wire
from tests.support.fake_plugins import Serve, plugin, policy


def echoing() -> Policy:
    """Answers with what it was asked."""

    async def tag(request: Any) -> object:
        return {"call_tag": "|".join(request.params.getall("x", []))}

    async def name(request: Any) -> object:
        return {"username": request.alias.raw, "password": "p"}

    return policy({"echo": plugin(participant_properties=tag, registration_alias=name)})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%2520b", "a%20b"),
        ("a%252Bb", "a%2Bb"),
        ("%25", "%"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%C3%A6", "æ"),
        ("%26%3D%23%3B", "&=#;"),
        ("a;b", "a;b"),
        ("a=b", "a=b"),
        ("a&x=b", "a|b"),
        ("&x=&x=c", "||c"),
        ("?a/b", "?a/b"),
    ],
)
async def test_a_query_is_decoded_once_and_a_plus_is_a_blank(
    serving: Serve, written: str, read: str
) -> None:
    async with serving(echoing()) as server:
        reply = await server.ask(f"{wire.PARTICIPANT}?x={written}")
        assert reply.result == {"call_tag": read}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a+b", "a+b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%2520b", "a%20b"),
        ("a%252Fb", "a%2Fb"),
        ("a%2Fb", "a/b"),
        ("a/b", "a/b"),
        ("%2F", "/"),
        ("..", ".."),
        ("../x", "../x"),
        ("%2e%2e/x", "../x"),
        ("%3Fa%23", "?a#"),
        ("sip:a@b;c=d", "sip:a@b;c=d"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%C3%A6", "æ"),
        ("a%0Ab", "a\nb"),
    ],
)
async def test_an_alias_in_the_path_is_decoded_once_and_a_plus_is_a_plus(
    serving: Serve, written: str, read: str
) -> None:
    async with serving(echoing()) as server:
        reply = await server.ask(wire.REGISTRATION + written + "?x=y")
        assert reply.result["username"] == read


@pytest.mark.parametrize("text", ["a b+c%d", "æøå&=?#/;:@", "%2525", "日本", "a\tb"])
async def test_whatever_is_quoted_arrives_as_it_was(serving: Serve, text: str) -> None:
    async with serving(echoing()) as server:
        in_query = await server.ask(f"{wire.PARTICIPANT}?x={quote_plus(text)}")
        in_path = await server.ask(wire.REGISTRATION + quote(text, safe=""))
        assert in_query.result == {"call_tag": text}
        assert in_path.result["username"] == text


async def test_an_encoded_letter_before_the_alias_does_not_change_the_alias(serving: Serve) -> None:
    async with serving(echoing()) as server:
        reply = await server.ask("/policy/v1/%72egistrations/alice")
        assert reply.status == 404 or reply.result["username"] == "alice"
