"""The page on annotations, metrics and observers: its plugins do what the text says."""

import json

from pexpolicy.testing import capture_audit, decide_sync, make_request
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
