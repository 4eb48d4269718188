"""Each faulty server is caught, and for its own fault alone."""

import pytest

from tests.conformance.fault import Fault
from tests.conformance.faulty import FAULTS
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import serving


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_server_that(fault: Fault) -> None:
    async with serving(fault) as url:
        violations = found(await run_flows(url, fault.played))
    assert {f.topic for f in violations} == {fault.topic}, violations
    assert any(fault.says in f.text for f in violations), violations


def test_no_two_faults_share_a_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
