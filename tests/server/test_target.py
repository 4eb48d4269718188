"""The target of a request: path and query as they were written, for whoever passes them on."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.explanation import explain
from pexpolicy.explain.request_forms import read_request
from pexpolicy.isolation import messages as isolation
from pexpolicy.models.request import set_origin
from pexpolicy.testing import decide, make_request, url_of
from tests.support import fake_plugins, wire
from tests.support.fake_plugins import Serve, policy

WRITTEN = [
    f"{wire.SERVICE}?local_alias=a%2fb+c&local_alias=%FF%e9&empty=&bare&=x&&q=%zz%25",
    f"{wire.AVATAR}sip%3aalice%40example.com?width=100&width=200",
    f"{wire.REGISTRATION}a/b//c?x=/policy/v1/registrations/",
    f'{wire.DIRECTORY}?q={{}}|^`"<>[]\\',
    wire.LOCATION,
]


class _Notes:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def plugin(self) -> type:
        async def hook(request: Any) -> None:
            self.seen.append(request.raw_target)

        return fake_plugins.plugin(**dict.fromkeys(ENDPOINTS, hook))


@pytest.mark.parametrize("base_path", ["", "/api/pexip"])
async def test_a_target_is_what_was_on_the_wire_below_the_base_path(
    serving: Serve, base_path: str
) -> None:
    notes = _Notes()
    async with serving({"notes": notes.plugin()}, server={"base_path": base_path}) as server:
        for target in WRITTEN:
            assert (await server.ask(base_path + target)).status in (200, 404)
    assert notes.seen == WRITTEN


@given(st.text("aZ09%2f+&=;/.~-_!*'(),:@$|^`{}<>\"", max_size=60))
def test_whatever_follows_the_path_stays_unchanged(tail: str) -> None:
    request = ENDPOINTS["service_configuration"].parse(MultiDict())
    set_origin(request, f"/base{wire.SERVICE}?{tail}")
    assert request.raw_target == f"{wire.SERVICE}?{tail}"


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_request_that_a_test_made_has_the_target_that_infinity_would_send(name: str) -> None:
    request = make_request(name)
    assert request.raw_target == str(url_of(request))
    assert request.raw_target.startswith(ENDPOINTS[name].path)


async def test_a_decision_without_http_sees_the_target_too() -> None:
    notes, request = _Notes(), make_request("media_location")
    await decide(notes.plugin(), request)
    assert notes.seen == [request.raw_target]


async def test_what_was_pasted_to_explain_is_passed_on_as_it_was() -> None:
    notes = _Notes()
    made = policy({"notes": notes.plugin()})
    async with made.serving():
        await explain(made, read_request(f"https://policy.example.com/api{WRITTEN[0]}"))
    assert notes.seen == WRITTEN[:1]


def test_a_target_reaches_the_process_of_a_plugin() -> None:
    request = make_request("registration_alias", alias="a/b@example.com")
    order = isolation.encode_order(("decide", request))
    assert pickle.loads(order)[1].raw_target == request.raw_target  # noqa: S301 - ours
