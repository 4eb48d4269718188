"""The scripts of a node after our answer, as ``pexpolicy replay --local-policy`` runs them."""

from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Conference, Continue, Decision, Gateway, Reject
from pexpolicy.explain.explanation import (
    LocalPolicyError,
    LocalPolicyOutcome,
    load_local_policy,
)
from pexpolicy.models.contract import Extras
from pexpolicy.testing import make_request
from tests.support.local_policy import PASS, ROOM, write_json

NO_EXTRAS = Extras()
MEETING = Conference(name="Meeting 07", service_tag="", pin="482913")
WAIVE = """{
  {% if service_config and call_info.registered %}
    "action": "continue",
    "result": {{ service_config|pex_update({"pin": "", "allow_guests": false})|pex_to_json }}
  {% elif service_config %}
    "action": "continue", "result": {{ service_config|pex_to_json }}
  {% else %}
    "action": "reject", "result": {}
  {% endif %}
}"""


async def after(
    folder: Path,
    script: str,
    decision: Decision,
    *,
    own: Any = None,
    extras: Extras = NO_EXTRAS,
    **fields: Any,
) -> LocalPolicyOutcome:
    """Return what a script makes of a decision; ``own`` is the service of Infinity itself."""
    (folder / "script.jinja2").write_text(script)
    names = [str(folder / "script.jinja2")]
    if own is not None:
        names.append(str(write_json(folder / "own.json", own)))
    request = make_request("service_configuration", local_alias="meet07", **fields)
    policy = load_local_policy(names)
    async with policy.running():
        found = await policy.after("service_configuration", request, decision, None, extras)
    assert found is not None
    return found


async def test_the_script_follows_our_answer(tmp_path: Path) -> None:
    found = await after(tmp_path, WAIVE, MEETING, registered=True)
    assert "applied: continue, changes pin (removed), allow_guests" in found.verdict
    assert "482913" not in found.verdict
    assert isinstance(found.final, Conference)
    assert not found.final.pin


async def test_a_result_that_is_empty_replaces_our_service(tmp_path: Path) -> None:
    empty = '{"action": "continue", "result": {}}'
    found = await after(tmp_path, empty, MEETING)
    assert "continue without a result, which leaves the call to Infinity" in found.verdict
    found = await after(tmp_path, empty, Continue())
    assert (found.verdict, found.final) == ("applied: continue, and nothing is changed", None)


async def test_what_infinity_has_itself_comes_from_a_file(tmp_path: Path) -> None:
    unknown = await after(tmp_path, PASS, Continue())
    assert unknown.unknown
    assert "not known: line 2: it reads service_config" in unknown.verdict
    assert "add a JSON file" in unknown.verdict
    known = await after(tmp_path, PASS, Continue(), own=ROOM)
    assert "applied: continue, with the same fields" in known.verdict
    assert not known.unknown


@pytest.mark.parametrize(
    "script",
    [
        '{{ {"action": "continue", "result": service_config}|pex_to_json }}',
        (
            '{"action": "continue",'
            ' "result": {{ {"pin": ""}|pex_update(service_config)|pex_to_json }}}'
        ),
    ],
)
async def test_what_only_the_node_knows_may_be_inside_of_an_object(
    tmp_path: Path, script: str
) -> None:
    unknown = await after(tmp_path, script, Continue())
    assert "not known: line 1: it reads service_config" in unknown.verdict
    known = await after(tmp_path, script, MEETING)
    assert "applied: continue, with the same fields" in known.verdict


async def test_the_disposition_of_external_policy_is_told(tmp_path: Path) -> None:
    script = (
        '{"action": "continue", "result": {"service_type": "conference", "service_tag": "",'
        ' "name": "{{ call_info.external_policy_disposition }}"}}'
    )
    found = await after(tmp_path, script, Reject())
    assert isinstance(found.final, Conference)
    assert found.final.name == "REJECT"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["absent.jinja2"], "absent.jinja2: cannot be read"),
        (["own.json"], "name a script"),
        (["pass.jinja2", "no.json"], "is not JSON"),
    ],
)
def test_mistakes_are_refused(
    names: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pass.jinja2").write_text(PASS)
    Path("no.json").write_text("{{ no }}")
    with pytest.raises(LocalPolicyError, match=reason):
        load_local_policy(names)


async def test_a_value_of_infinity_that_is_listed_may_be_in_both(tmp_path: Path) -> None:
    extras = Extras(values={"outgoing_protocol": frozenset({"zoom"})})
    fields = {"local_alias": "a", "remote_alias": "b", "outgoing_protocol": "zoom"}
    made = Gateway.from_result({"name": "Out", "service_tag": "", **fields}, extras=extras)
    script = (
        '{"action": "continue", "result":'
        ' {{ service_config|pex_update({"name": "Other"})|pex_to_json }}}'
    )
    found = await after(tmp_path, script, made, extras=extras)
    assert isinstance(found.final, Gateway), found
    assert (found.final.name, found.final.outgoing_protocol) == ("Other", "zoom")
