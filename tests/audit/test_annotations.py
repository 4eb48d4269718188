"""Annotations: bounded, redacted, and in the line of the call that they belong to."""

import asyncio
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Alias, Conference, DecisionError, Privacy
from pexpolicy.audit.records import as_json
from pexpolicy.audit.redaction import Redaction, drop, keyed_hash, redact_annotations
from pexpolicy.isolation.child import ChildError
from pexpolicy.models.context import hook_context
from pexpolicy.models.request import MAX_ANNOTATIONS, MAX_TEXT
from pexpolicy.testing import assert_case, load_cases, make_request
from tests.support import wire
from tests.support.fake_plugins import Serve, plugin
from tests.support.isolated import PluginFolder, request
from tests.support.waiting import until

ROOM = Conference(name="Room", service_tag="")


def annotating(*args: Any, answer: object = None, **values: Any) -> type:
    async def hook(request: Any) -> object:
        request.annotate(*args, **values)
        return answer

    return plugin(service_configuration=hook)


async def test_each_plugin_has_its_own_and_other_lines_have_none(serving: Serve) -> None:
    async def only_for_ada(request: Any) -> object:
        if request.local_alias.user == "meet.alice":
            request.annotate(ticket=4711)
            request.annotate(vip=True, score=0.5)
        return None

    def in_a_thread(request: Any) -> object:
        if request.local_alias.user == "meet.alice":
            request.annotate(note=None)
        return ROOM

    classes = {
        "first": plugin(service_configuration=only_for_ada),
        "second": plugin(service_configuration=in_a_thread),
    }
    async with serving(classes) as server:
        await server.ask("/policy/v1/service/configuration?local_alias=sip:meet.alice@example.com")
        await server.ask("/policy/v1/service/configuration?local_alias=other")
        annotated, plain = server.lines()
    assert annotated["annotations"] == {
        "first": {"ticket": 4711, "vip": True, "score": 0.5},
        "second": {"note": None},
    }
    assert "annotations" not in plain


async def test_a_hook_that_fails_or_is_late_keeps_its_annotations(serving: Serve) -> None:
    async def fails(request: Any) -> object:
        request.annotate(stage="before")
        raise RuntimeError

    async def hangs(request: Any) -> object:
        request.annotate(stage="before")
        await asyncio.sleep(3600)
        return None

    classes = {
        "fails": plugin(service_configuration=fails),
        "hangs": plugin(service_configuration=hangs),
        "decides": annotating(answer=ROOM, stage="end"),
    }
    async with serving(classes, {"hangs": {"timeout": 0.05}}) as server:
        await server.ask(wire.SERVICE)
        (line,) = server.lines()
    stages = {name: values["stage"] for name, values in line["annotations"].items()}
    assert stages == {"fails": "before", "hangs": "before", "decides": "end"}


async def test_a_shadow_annotates_its_own_line(serving: Serve) -> None:
    classes = {"shadow": annotating(ticket=1), "real": annotating(answer=ROOM, ticket=2)}
    async with serving(classes, {"shadow": {"mode": "shadow"}}) as server:
        await server.ask(wire.SERVICE)
        await until(lambda: len(server.lines()) == 2)
        real, shadow = server.lines()
    assert (shadow["event"], shadow["annotations"]) == ("shadow", {"shadow": {"ticket": 1}})
    assert real["annotations"] == {"real": {"ticket": 2}}


ISOLATED = """
def service_configuration(self, request):
    request.annotate(Privacy.PERSONAL, owner="Anna")
    request.annotate(ticket=4711, text="\\ud800 x" * 300, too_large=2**70)
    return eval(request.params["do"])

service_configuration = hookimpl(service_configuration)
"""


async def test_a_worker_process_annotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    async with PluginFolder(tmp_path).serving(ISOLATED) as isolated:
        for do in ("None", "Reject()", "1 / 0", "{'service_type': 'x', 'name': 5}"):
            asked = request("service_configuration", do=do)
            with suppress(ChildError, DecisionError), hook_context("toy", "service_configuration"):
                await isolated.hooks["service_configuration"](asked)
            written, removed = redact_annotations(asked, Redaction(drop))
            assert written == {"toy": {"ticket": 4711, "text": written["toy"]["text"]}}, do
            assert len(written["toy"]["text"]) == MAX_TEXT
            assert removed == ["annotations.toy.owner", "annotations.toy"]


@pytest.mark.parametrize("wrong", [b"", [], {}, object(), Privacy])
def test_a_value_of_another_type_is_a_failure_of_the_plugin(wrong: object) -> None:
    made = make_request("service_configuration")
    with pytest.raises(TypeError, match="an annotation is text, a number, True, False or None"):
        made.annotate(ticket=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="named like a variable"):
        made.annotate(**{"two words": 1})


def test_what_is_too_much_is_left_out_and_named() -> None:
    made = make_request("service_configuration")
    made.annotate(**{f"n{number}": number for number in range(100)})
    made.annotate(n0="replaced", n1=10**40)
    written, removed = redact_annotations(made, Redaction())
    assert len(written["unknown"]) == MAX_ANNOTATIONS
    assert (written["unknown"]["n0"], written["unknown"]["n1"]) == ("replaced", 1)
    assert removed == ["annotations.unknown"]


class Score(float):
    """A number of a library, such as NumPy's ``float64``."""


values = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.floats().map(Score),
    st.booleans(),
    st.none(),
    st.text().map(Alias),
)


@given(st.dictionaries(st.text(max_size=80), values, max_size=40), st.sampled_from(Privacy))
def test_any_annotation_is_valid_json_of_bounded_size(
    annotations: dict[str, Any], privacy: Privacy
) -> None:
    made = make_request("service_configuration")
    for name, value in annotations.items():
        try:
            made.annotate(privacy, **{name: value})
        except ValueError:
            assert not name.isidentifier() or len(name) > 64
    written, _ = redact_annotations(made, Redaction(keyed_hash(b"k" * 32)))
    line = as_json({"annotations": written})
    assert len(line) < MAX_ANNOTATIONS * (64 + MAX_TEXT) * 6 + 100
    assert set(json.loads(line)["annotations"].get("unknown", {})) <= annotations.keys()


@pytest.mark.parametrize(
    ("personal", "expected"),
    [
        (None, {"alias": "ann@example.com", "name": "Ann", "plain": 1, "both": "by Ann"}),
        (drop, {"plain": 1, "both": "by Ann"}),
        (str.upper, {"alias": "ANN@EXAMPLE.COM", "name": "ANN", "plain": 1, "both": "by Ann"}),
    ],
)
def test_personal_values_are_written_as_those_of_the_request(
    personal: Any, expected: dict[str, Any]
) -> None:
    made = make_request(
        "service_configuration", remote_alias="sip:Ann@example.com", remote_display_name="Ann"
    )
    made.annotate(alias=made.remote_alias, name="Ann", plain=1, both="by Ann")
    written, removed = redact_annotations(made, Redaction(personal))
    assert written == {"unknown": expected}
    assert removed == [f"annotations.unknown.{n}" for n in ("alias", "name") if n not in expected]


def test_the_hash_of_an_alias_is_that_of_the_request() -> None:
    redaction = Redaction(keyed_hash(b"k" * 32))
    made = make_request("service_configuration", remote_alias="sip:Ann@example.com;x=1")
    made.annotate(normal=made.remote_alias, raw="sip:Ann@example.com;x=1")
    written, _ = redact_annotations(made, redaction)
    facts, _ = redaction.request("service_configuration", made.params, "")
    assert set(written["unknown"].values()) == {facts["remote_alias"]}


def test_secrets_are_never_written() -> None:
    made = make_request("service_configuration", third_party_passcode="918273")
    made.annotate(Privacy.SECRET, pin="4444")
    made.annotate(text="it is 918273", number=918273, uri="sip:bob:hunter2@example.com")
    written, removed = redact_annotations(made, Redaction())
    assert written == {
        "unknown": {
            "pin": "***",
            "text": "it is ***",
            "number": "***",
            "uri": "sip:bob:***@example.com",
        }
    }
    assert removed == ["annotations.unknown.pin", "annotations.unknown.number"]


def test_a_case_compares_annotations(tmp_path: Path) -> None:
    cases = tmp_path / "cases.toml"
    cases.write_text(
        '[[case]]\nname = "annotated"\nendpoint = "service_configuration"\n'
        "expect.annotations.doors.ticket = 4711\n"
    )
    (case,) = load_cases(cases)
    assert_case({"doors": annotating(ticket=4711, other=1)}, case)
    with pytest.raises(AssertionError, match=r"annotations.doors.ticket +expected 4711"):
        assert_case({"doors": annotating(ticket=1)}, case)


async def test_a_thread_adds_to_its_hook_or_to_the_unknown(serving: Serve) -> None:
    async def hook(request: Any) -> object:
        await asyncio.to_thread(request.annotate, ticket=4711)
        thread = threading.Thread(target=lambda: request.annotate(raw=True))
        thread.start()
        thread.join()
        return ROOM

    async with serving({"toy": plugin(service_configuration=hook)}) as server:
        await server.ask(wire.SERVICE)
        annotations = server.lines()[0]["annotations"]
    assert annotations == {"toy": {"ticket": 4711}, "unknown": {"raw": True}}
