"""The page on log lines: its plugin writes the line that the page shows."""

import io
import json
import sys

import pytest

from pexpolicy.log import ServerLog, capturing
from pexpolicy.testing import decide_sync, make_policy, make_request
from tests.support import samples

PAGE = "logging.md"


@samples.covers(PAGE, "Writing lines")
def test_the_line_is_as_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = samples.section(PAGE, "Writing lines")
    plugins = {"rooms_by_tag": told.names["RoomsByTag"]}
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    request = make_request("service_configuration", call_tag="blue")
    with capturing(ServerLog()) as handler:
        handler.use(make_policy(plugins, config=told.config).log_levels)
        decide_sync(plugins, request, config=told.config)
    written, shown = json.loads(stderr.getvalue()), json.loads(told.shown("json"))
    assert list(written) == list(shown)
    assert written.pop("decision_id") == request.decision_id
    for field in ("timestamp", "logger"):
        assert written.pop(field)
        shown.pop(field)
    del shown["decision_id"]
    assert written == shown
    assert "no room has this tag tag='blue'" in caplog.text
