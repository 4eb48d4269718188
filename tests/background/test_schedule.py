"""Scheduled jobs: their times, their failures, and one runner in all processes of a server."""

import asyncio
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Refreshed, schedule
from pexpolicy.background.schedule import JobHistory, JobRuns, ScheduledJob
from pexpolicy.files import CacheFile
from pexpolicy.testing import make_policy
from tests.support import live_server
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import Log, plugin
from tests.support.virtual_time import clock, virtual
from tests.support.waiting import until, wait_until

ASKED = plugin(service_configuration=lambda _: None)


class Work:
    def __init__(self, *results: BaseException | float) -> None:
        self.results = list(results)
        self.starts: list[float] = []

    async def tidy(self) -> None:
        self.starts.append(round(clock(), 1))
        result = self.results.pop(0) if self.results else 0.0
        if isinstance(result, BaseException):
            raise result
        await asyncio.sleep(result)

    @property
    def times(self) -> list[float]:
        return [round(start - self.starts[0], 1) for start in self.starts]


def bound(
    work: Work, history: JobHistory | None = None, **options: Any
) -> tuple[ScheduledJob, Log, JobRuns]:
    job = schedule(work.tidy, **{"every": 60, **options})
    log, history = Log(), history or JobHistory()
    job.bind("guests", log)
    job.history = history
    return job, log, history.runs


@virtual
async def test_a_job_runs_at_once_and_then_at_its_interval() -> None:
    work = Work(0, 20)
    async with bound(work)[0]:
        await asyncio.sleep(200)
    assert work.times == [0, 60, 120, 180]
    await asyncio.sleep(200)
    assert len(work.times) == 4


@virtual
async def test_a_run_that_is_longer_than_the_interval_delays_the_next_one() -> None:
    work = Work(15)
    async with bound(work, every=10)[0]:
        await asyncio.sleep(32)
    assert work.times == [0, 15, 25]


@virtual
async def test_a_run_that_fails_or_is_late_is_logged_and_counted() -> None:
    work = Work(ValueError("no table"), SystemExit(3), 500)
    job, log, runs = bound(work, timeout=5)
    async with job:
        await asyncio.sleep(5)
        assert job.report() == {
            "every": 60,
            "once_per": "server",
            "last_run_age": pytest.approx(5, abs=0.1),
            "problem": job.problem,
        }
        assert job.problem.startswith("ValueError: no table")
        await asyncio.sleep(200)
        assert job.problem == ""
    assert work.times == [0, 60, 120, 180]
    assert runs == {
        ("guests", "tidy", "failed"): 2,
        ("guests", "tidy", "timed_out"): 1,
        ("guests", "tidy", "done"): 1,
    }
    assert {(e["event"], e["plugin"], e["job"]) for e in log.events} == {
        ("job failed", "guests", "tidy")
    }
    assert "no answer within 5 s" in str(log.events)


@virtual
async def test_a_job_goes_on_over_a_reload() -> None:
    history = JobHistory()
    first, second = Work(), Work()
    async with bound(second, history)[0]:
        async with bound(first, history)[0]:
            await asyncio.sleep(90)
        await asyncio.sleep(50)
    starts = sorted(first.starts + second.starts)
    assert [start - starts[0] for start in starts] == [0, 60, 120]


@virtual
async def test_an_interrupted_run_starts_again_within_a_minute() -> None:
    history = JobHistory()
    interrupted, work = Work(500), Work()
    async with bound(work, history, every=600)[0]:
        await asyncio.sleep(1)
    work.starts.clear()
    history.started.clear()
    async with bound(interrupted, history, every=600)[0]:
        await asyncio.sleep(1)
    async with bound(work, history, every=600)[0]:
        await asyncio.sleep(70)
    assert len(work.starts) == 1
    assert work.starts[0] - interrupted.starts[0] <= 60


@pytest.mark.parametrize("options", [{"every": 0}, {"timeout": 0}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        schedule(Work().tidy, **{"every": 1, **options})


def test_a_plain_function_is_no_job() -> None:
    def tidy() -> None: ...

    with pytest.raises(TypeError, match="tidy is a plain function: write async def"):
        schedule(tidy, every=60)  # type: ignore[arg-type]
    schedule(lambda: Work().tidy(), every=60)


async def test_status_and_metrics_show_the_jobs_of_a_plugin(tmp_path: Path) -> None:
    class Tidies(ASKED):  # type: ignore[misc, valid-type]
        def __init__(self, settings: object) -> None:
            self.done = asyncio.Event()
            schedule(self.tidy, every=60)

        async def tidy(self) -> None:
            self.done.set()
            raise OSError("no disk")

    made = make_policy(Tidies)
    async with serve_with_admin(made, tmp_path, in_server=True) as server:

        async def problem() -> str:
            (shown,) = (await server.status())["plugins"]
            return str(shown["jobs"]["tidy"].get("problem") or "")

        await until(problem)
        assert (await problem()).startswith("OSError: no disk")
        labels = {"plugin": "tidies", "job": "tidy", "outcome": "failed"}
        assert (await server.metrics())("job_runs_total", **labels) == 1


async def test_a_dry_run_runs_no_job_and_writes_no_file(tmp_path: Path) -> None:
    done: list[str] = []

    class Tidies(ASKED):  # type: ignore[misc, valid-type]
        def __init__(self, settings: object) -> None:
            schedule(self.tidy, every=60)
            file = CacheFile(tmp_path / "data", str)
            self.data = Refreshed(self.tidy, every=60, key="key", file=file)

        async def tidy(self) -> str:
            done.append("tidied" if self.data.is_open else "fetched")
            return "data"

    for in_server in (False, True):
        done.clear()
        async with make_policy(Tidies).serving(in_server=in_server):
            await until(lambda: len(done) > in_server)  # noqa: B023
        assert done == ["fetched", *["tidied"] * in_server]
        assert os.listdir(tmp_path) == ["data"] * in_server  # noqa: PTH208


PLUGIN = """
import asyncio, os, time
from pathlib import Path
from pexpolicy import hookimpl, schedule

class Tidies:
    def __init__(self, settings):
        schedule(self.tidy, every=0.2)
        schedule(self.sweep, every=0.2, once_per="worker")

    async def tidy(self):
        self.write("tidy.txt")
        await asyncio.sleep(0.05)

    async def sweep(self):
        self.write("sweep.txt")

    def write(self, name):
        with Path(__file__).with_name(name).open("a") as runs:
            runs.write(f"{os.getpid()} {time.monotonic()}\\n")

    @hookimpl
    async def service_configuration(self, request):
        return None
"""


def test_the_first_worker_runs_a_job_and_its_successor_does(tmp_path: Path) -> None:
    config = live_server.drop_in(tmp_path, "tidies", PLUGIN)

    def runs(name: str = "tidy.txt") -> list[tuple[int, float]]:
        log = tmp_path / "plugins" / name
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(line.split()[0]), float(line.split()[1])) for line in lines]

    log: list[str] = []
    with live_server.running(config, "--workers", "3", log=log) as server:
        wait_until(lambda: len(runs()) >= 4)
        wait_until(lambda: len({pid for pid, _ in runs("sweep.txt")}) == 3)
        killed = runs()[-1][0]
        os.kill(killed, signal.SIGKILL)
        before = len(runs())
        wait_until(lambda: len(runs()) >= before + 4)
        counted = server.operator("/metrics").body.decode()
        found = runs()
    runners = list(dict.fromkeys(pid for pid, _ in found))
    assert runners[0] == killed, log
    assert len(runners) == 2, log
    gaps = [b - a for (_, a), (_, b) in pairwise(found)]
    assert min(gaps) > 0.15
    assert 'pexpolicy_job_runs_total{job="tidy",outcome="done",plugin="tidies"}' in counted
