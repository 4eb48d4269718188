"""Whatever plugins answer, no reply leaves that Infinity would drop, and each refusal is blamed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.batches import BATCH
from lab.generated_decisions.drive import batch
from lab.generated_decisions.values import PINS, UUIDS, fields_of
from pexpolicy import Decision, DecisionError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.contract import contract_of
from tests.support.oracle import judge


@pytest.mark.filterwarnings("ignore")
def test_no_decision_of_a_plugin_makes_a_wrong_reply() -> None:
    tally = batch(random.randrange(2**32))
    assert tally.wrong == []
    steps = tally.counts["steps"]
    assert steps.total() == BATCH
    assert min(steps["decided"], steps["invalid"]) > BATCH / 10
    replies = {"200 continue", "200 reject", "200 redirect", "404 continue"}
    assert tally.counts["replies"].keys() >= replies


MODELS = {decision: endpoint for endpoint in ENDPOINTS.values() for decision in endpoint.decisions}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2)
    | st.binary(max_size=10)
    | st.sampled_from([*PINS, *UUIDS, "yes", "chair", "sip", "x" * 251]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "model", [m for m in MODELS if contract_of(m).hints], ids=lambda model: str(model.__name__)
)
@given(data=st.data(), chance=st.randoms())
def test_a_model_is_built_only_of_what_infinity_takes(
    model: type[Decision], data: st.DataObject, chance: random.Random
) -> None:
    drawn = data.draw(
        st.dictionaries(st.sampled_from(sorted(contract_of(model).names)), ANYTHING, max_size=3)
    )
    build = data.draw(st.sampled_from([model.from_result, lambda given: model(**given)]))
    endpoint = MODELS[model]
    try:
        decision = endpoint.to_decision(build(fields_of(chance, model, 0.0) | drawn))
    except DecisionError:
        return
    reply = endpoint.reply(decision, "id", "plugin")
    found = judge(endpoint.name, "", reply.status, reply.content_type, reply.body)
    assert [violation for violation in found if violation.fatal] == []
