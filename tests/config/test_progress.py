"""Who waits for a large configuration is told what is being done."""

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.cli.common import progress_lines
from pexpolicy.policy import BuildContext
from tests.support.live_server import SHIPPED
from tests.support.waiting import HANG_S


def test_only_the_stages_of_a_long_start_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for delay in (HANG_S, 0.0):
        with progress_lines(delay) as stage:
            stage("reading config.toml")
            while not delay and "building" not in capsys.readouterr().err:
                stage("building the plugin rooms")
        assert delay == 0.0 or capsys.readouterr().err == ""


def test_the_stages_of_a_policy_are_reading_checking_and_each_plugin() -> None:

    stages: list[str] = []
    policy_from(SHIPPED, context=BuildContext(stage=stages.append)).close()
    assert stages == [
        "reading config.toml, 0.0 MB",
        "checking config.toml",
        "building the plugin domains",
        "building the plugin rooms",
    ]
