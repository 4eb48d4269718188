"""What worker processes may use, and which variables they get."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pexpolicy.isolation import process_limits
from pexpolicy.isolation.messages import WorkerError
from pexpolicy.isolation.process_limits import UsageMeter
from tests.isolation.test_isolated_faults import doing, pid_of
from tests.support.isolated import PluginFolder, service, table_of, wait_until_gone


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginFolder:
    monkeypatch.syspath_prepend(tmp_path)
    return PluginFolder(tmp_path)


READER = """
class Settings(PluginSettings):
    token_env: str = ""
    nested: list[dict[str, str]] = []

class Toy:
    Settings = Settings
    def __init__(self, settings): pass
    @hookimpl
    async def service_configuration(self, request):
        return Continue(reason=" ".join(sorted(n for n in os.environ if n.startswith("X_"))))
"""


@pytest.mark.parametrize(
    ("env", "seen"),
    [
        ([], "X_INNER X_NAMED"),
        (["X_LISTED", "X_ABSENT"], "X_INNER X_LISTED X_NAMED"),
        (["*"], "X_INNER X_LISTED X_NAMED X_SECRET"),
    ],
)
async def test_a_worker_gets_the_variables_that_it_is_given(
    shelf: PluginFolder, monkeypatch: pytest.MonkeyPatch, env: list[str], seen: str
) -> None:
    for name in ("X_INNER", "X_LISTED", "X_NAMED", "X_SECRET"):
        monkeypatch.setenv(name, "value")
    settings = {"token_env": "X_NAMED", "nested": [{"key_env": "X_INNER"}]}
    isolated = shelf.start(shelf.write(READER), env=env, settings=settings)
    async with isolated.lifespan():
        assert (await service(isolated)).reason == seen


@pytest.mark.parametrize("name", ["A-B", "A B", "", "*A", "1A"])
def test_a_variable_that_cannot_be_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="env"):
        table_of(env=[name])


async def test_a_worker_that_writes_too_large_a_file_is_named_and_replaced(
    shelf: PluginFolder, tmp_path: Path
) -> None:
    target = tmp_path / "large"
    body = f"""
    if do == 'write':
        with open({str(target)!r}, 'wb') as file:
            file.write(b'x' * 2_000_000)
    """
    async with shelf.serving(doing(body, "def"), file_mb=1) as isolated:
        before = await pid_of(isolated)
        said = "ended with SIGXFSZ: it wrote a file larger than its file_mb, 1"
        with pytest.raises(WorkerError, match=said):
            await service(isolated, "write")
        assert target.stat().st_size <= 1 << 20
        assert await pid_of(isolated) != before


async def test_a_worker_that_opens_too_many_files_fails_by_name(shelf: PluginFolder) -> None:
    body = """
    if do == 'open':
        try:
            kept = [open('/dev/null') for _ in range(100)]
        except OSError as error:
            raise ValueError('wrapped') from error
    """
    async with shelf.serving(doing(body, "def"), open_files=64) as isolated:
        before = await pid_of(isolated)
        with pytest.raises(WorkerError, match=r"ValueError: wrapped .*; its open_files is 64"):
            await service(isolated, "open")
        assert await pid_of(isolated) == before


async def test_the_memory_of_child_processes_counts(shelf: PluginFolder) -> None:
    program = "import time; kept = b'x' * 200_000_000; time.sleep(600)"
    body = f"""
    if do == 'start':
        import subprocess
        self.child = subprocess.Popen([sys.executable, '-c', {program!r}])
        time.sleep(600)
    """
    async with shelf.serving(doing(body, "def"), memory_mb=150) as isolated:
        said = r"used \d+ MiB of memory with its child processes \(1\), and its memory_mb is 150"
        with pytest.raises(WorkerError, match=said):
            await service(isolated, "start")


async def test_memory_that_forked_processes_share_counts_once(shelf: PluginFolder) -> None:
    source = textwrap.dedent("""
    KEPT = b'x' * 100_000_000
    class Toy:
        def __init__(self, settings): pass
    """) + textwrap.indent(
        doing("""
        if do == 'fork':
            for _ in range(3):
                if not os.fork():
                    time.sleep(600)
                    os._exit(0)
        """),
        "    ",
    )
    async with (isolated := shelf.start(shelf.write(source), memory_mb=300)).lifespan():
        before = await pid_of(isolated)
        await service(isolated, "fork")
        await asyncio.sleep(0.5)
        assert await pid_of(isolated) == before


async def test_a_worker_that_keeps_the_processor_busy_is_named_and_replaced(
    shelf: PluginFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process_limits, "CPU_WINDOW_S", 1.0)
    body = """
    if do == 'spin':
        import threading
        threading.Thread(target=lambda: any(number for number in iter(int, 1)), daemon=True).start()
    """
    async with shelf.serving(doing(body), cpu_percent=5) as isolated:
        before = await pid_of(isolated)
        await asyncio.sleep(1.5)
        assert await pid_of(isolated) == before
        await service(isolated, "spin")
        assert await asyncio.to_thread(wait_until_gone, [before])
        assert await pid_of(isolated) != before
    assert "% of a core for 1 s, and its cpu_percent is 5: it is replaced" in caplog.text


def test_a_long_chain_of_processes_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.listdir", lambda _: ["1"])
    monkeypatch.setattr(process_limits, "_read", _next_child)
    assert list(process_limits._descendants(1)) == list(range(2, 5001))


def _next_child(path: str) -> str:
    pid = int(path.split("/")[2])
    return str(pid + 1) if pid < 5000 else ""


def test_a_process_that_is_gone_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    limits = process_limits.ProcessLimits({}, 0, cpu_percent=1)
    assert UsageMeter(ended.pid).excess(limits, 1.0, is_open=True) == ""
