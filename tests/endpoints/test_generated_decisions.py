"""Whatever plugins answer, no reply leaves that Infinity would drop, and each refusal is blamed."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.generated_decisions.drive import Driver
from lab.generated_decisions.values import PINS, UUIDS, fields_of
from pexpolicy import Decision, DecisionError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.contract import contract_of
from tests.support.oracle import judge

EACH = 400
EXAMPLES = 3
"""Seeds for each of six endpoints: 7,200 decisions in all; `make -C lab decisions`: a million."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@given(seed=st.integers(min_value=0, max_value=2**32))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_decision_of_a_plugin_makes_a_wrong_reply(endpoint: str, seed: int) -> None:
    tally = Driver(seed).run(EACH, (endpoint,))
    assert tally.wrong == []
    assert tally.counts["steps"].total() == EACH
    assert tally.counts["steps"]["decided"] > EACH / 10
    assert tally.counts["steps"]["invalid"] > EACH / 10


def test_what_is_generated_reaches_every_kind_of_reply() -> None:
    replies = Driver(7).run(1000).counts["replies"]
    assert replies.keys() >= {"200 continue", "200 reject", "200 redirect", "404 continue"}


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
