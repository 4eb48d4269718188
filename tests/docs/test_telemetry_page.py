"""The page on annotations, metrics and observers: its plugins do what the text says."""

import json

from pexpolicy.observability.snapshot import expose
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.testing import capture_audit, decide_sync, make_policy, make_request
from tests.support import samples

PAGE = "telemetry.md"


@samples.covers(PAGE, "Annotations")
def test_annotations_are_in_the_audit_line_as_shown() -> None:
    told = samples.section(PAGE, "Annotations")
    request = make_request("service_configuration", local_alias="garden@example.com")
    with capture_audit() as lines:
        decide_sync(told.plugin("Doors"), request, config=told.config)
    shown = json.loads(told.shown("json"))
    assert {"annotations": lines[0]["annotations"]} == shown


@samples.covers(PAGE, "Metrics")
def test_metrics_are_exposed_as_shown() -> None:
    told = samples.section(PAGE, "Metrics")
    request = make_request("service_configuration", local_alias="front@example.com")
    assert decide_sync(told.plugin("Desks"), request, config=told.config).decided_by == "desks"
    telemetry = Telemetry()
    telemetry.use_policy(make_policy(told.plugin("Desks"), config=told.config))
    text = expose(telemetry.snapshot()).decode()
    for line in told.shown("text").splitlines():
        assert f"\n{line}\n" in text
