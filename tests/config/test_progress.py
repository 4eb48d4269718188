"""Who waits for a large configuration is told what is being done."""

import queue

from pexpolicy.builder import policy_from
from pexpolicy.cli.progress import progress_lines
from pexpolicy.policy import BuildContext
from tests.support.live_server import SHIPPED
from tests.support.waiting import HANG_S


def test_what_is_quick_is_not_spoken_of() -> None:
    said: list[str] = []
    with progress_lines(said.append) as stage:
        stage("reading config.toml")
    assert said == []


def test_the_stage_under_way_and_each_later_one_is_named_with_the_time_it_began() -> None:
    said: queue.Queue[str] = queue.Queue()
    with progress_lines(said.put, delay=0.0) as stage:
        assert said.get(timeout=HANG_S) == "0 s: starting"
        while said.empty():
            stage("building the plugin rooms")
    assert said.get() == "0 s: building the plugin rooms"


def test_the_stages_of_a_policy_are_reading_checking_and_each_plugin() -> None:

    stages: list[str] = []
    policy_from(SHIPPED, context=BuildContext(stage=stages.append)).close()
    assert stages == [
        "reading config.toml, 0.0 MB",
        "checking config.toml",
        "building the plugin domains",
        "building the plugin rooms",
    ]
