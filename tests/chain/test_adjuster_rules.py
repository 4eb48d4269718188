"""Rules that hold whatever adjusters do, and whatever plugins give to a merged decision."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pexpolicy import UNSET, ParticipantProperties, Reject
from pexpolicy.models.outcome import AdjustedStep
from pexpolicy.testing import capture_audit, decide_sync, make_request
from tests.support.adjusting_plugins import ADJUSTMENTS, DECISIONS, Adjusts, Decides
from tests.support.fake_plugins import always, plugin
from tests.support.secret_canaries import PIN

KINDS = st.sampled_from(sorted({*ADJUSTMENTS, "fail"} - {"tamper"}))
"""Without forging a decision in place, which rejects the call: it would spoil the shared ones."""
ADJUSTERS = st.lists(st.tuples(KINDS, st.sampled_from(["skip", "reject"])), max_size=4)
DECIDED = st.sampled_from(["room", "reject", "continue", "redirect"])


@settings(max_examples=60)
@given(DECIDED, ADJUSTERS)
def test_nothing_that_was_closed_is_opened(decided: str, adjusters: list[tuple[str, str]]) -> None:
    plugins: dict[str, Any] = {"rooms": (Decides, {"do": decided})}
    tables: dict[str, Any] = {}
    for number, (what, on_error) in enumerate(adjusters):
        plugins[f"a{number}"] = (Adjusts, {"do": what})
        tables[f"a{number}"] = {"on_error": on_error}
    request = make_request("service_configuration")
    with capture_audit() as lines:
        outcome = decide_sync(plugins, request, config={"plugins": tables})
    if decided == "reject":
        assert outcome.decision.action == "reject"
    if decided == "room" and outcome.decision.action == "continue":
        assert outcome.decision.set_fields()["pin"].strip()
    (line,) = lines
    assert PIN not in json.dumps(line)
    assert PIN[::-1] not in json.dumps(line)
    assert line["decided_by"] == outcome.decided_by
    assert [step["outcome"] for step in line["steps"]] == [s.outcome for s in outcome.steps]
    decision = DECISIONS[decided]
    for step in outcome.steps[1:]:
        if isinstance(step, AdjustedStep):
            before, after = decision.facts(), step.after.facts()
            names = {**before, **after}
            assert step.changes == {
                name: (before.get(name, UNSET), after.get(name, UNSET))
                for name in names
                if before.get(name, UNSET) != after.get(name, UNSET)
            }
            decision = step.after
    if outcome.decided_by == "rooms":
        assert outcome.decision == decision


FIELDS = {
    "spotlight": st.integers(0, 9),
    "call_tag": st.sampled_from(["a", "b"]),
    "bypass_lock": st.booleans(),
    "preauthenticated_role": st.sampled_from(["chair", "guest", None]),
}
PARTS = st.lists(
    st.none() | st.just("reject") | st.fixed_dictionaries({}, optional=FIELDS), max_size=5
)


@settings(max_examples=60)
@given(PARTS)
def test_the_first_value_of_each_field_is_sent(parts: list[Any]) -> None:
    answers = {
        f"p{number}": Reject(reason=str(number)) if part == "reject" else part
        for number, part in enumerate(parts)
    }
    plugins = {name: plugin(participant_properties=always(a)) for name, a in answers.items()}
    config = {"endpoints": {"participant_properties": {"combine": "merge"}}}
    outcome = decide_sync(plugins, make_request("participant_properties"), config=config)
    expected: dict[str, Any] = {}
    for name, part in answers.items():
        if isinstance(part, Reject):
            assert (outcome.decision, outcome.decided_by) == (part, name)
            return
        for field, value in (part or {}).items():
            expected.setdefault(field, value)
    if all(part is None for part in answers.values()):
        assert outcome.decided_by == "default"
        return
    assert outcome.decision == ParticipantProperties(**expected)
    given = [field for step in outcome.steps for field in step.fields]
    assert given == list(outcome.decision.set_fields())
