"""Whatever a plugin does in a worker of its own, it ends that worker and nothing else."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Continue, Reject
from pexpolicy.chain.chain import BoundHook, Chain
from pexpolicy.chain.hook_tasks import HookTasks, PluginBusyError
from pexpolicy.config.problems import PluginBuildError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.isolation.child import ChildError
from pexpolicy.isolation.isolated_plugin import IsolatedPlugin
from tests.support.isolated import PluginFolder, children, descriptors, request, service
from tests.support.processes import is_running, wait_for_end
from tests.support.waiting import HANG_S, until

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
    pytest.mark.slow,
]


ANSWERS = """
@hookimpl
{kind} service_configuration(self, request):
    do = request.params["do"]
    {body}
    return Continue(reason=str(os.getpid()))
"""


def doing(body: str, kind: str = "async def") -> str:
    """A hook that does this where it is told to, and else says which process it runs in."""
    written = textwrap.dedent(body).strip().replace("\n", "\n    ")
    return ANSWERS.format(kind=kind, body=written)


def one_of(bodies: dict[str, str]) -> str:
    """What a hook does that does one of these, as it is told."""
    parts = []
    for name, body in bodies.items():
        parts += [f"if do == {name!r}:", textwrap.indent(textwrap.dedent(body).strip(), "    ")]
    return "\n".join(parts)


async def pid_of(isolated: IsolatedPlugin) -> int:
    return int((await service(isolated)).reason)


ENDS = {
    "exit": ("os._exit(3)", "exit code 3"),
    "exit by nothing": ("os._exit(0)", "exit code 0"),
    "segfault": ("ctypes.string_at(0)", "SIGSEGV"),
    "abort": ("os.abort()", "SIGABRT"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "a signal without a name": ("os.kill(os.getpid(), signal.SIGRTMIN + 6)", "signal 40"),
    "loop stopped": ("asyncio.get_running_loop().stop(); await asyncio.sleep(9)", "exit code 1"),
    "exit in a task": (
        "asyncio.get_running_loop().call_soon(sys.exit, 5); await asyncio.sleep(9)",
        "exit code 5",
    ),
}


async def test_a_worker_that_ends_fails_its_call_by_name_and_is_replaced(
    shelf: PluginFolder,
) -> None:
    bodies = {end: body for end, (body, _) in ENDS.items()}
    async with shelf.serving(doing(one_of(bodies))) as isolated:
        for end, (_, said) in ENDS.items():
            before = await pid_of(isolated)
            with pytest.raises(ChildError) as raised:
                await service(isolated, end)
            whole = f"the worker process of toy (toy-dist 1.2) ended with {said}"
            assert str(raised.value) == whole, end
            assert await pid_of(isolated) != before, end


async def test_a_worker_that_is_killed_before_it_was_asked_is_replaced_at_once(
    shelf: PluginFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexpolicy.isolation.child.MIN_RESTART_DELAY_S", 60.0)
    async with shelf.serving(doing(""), processes=2) as isolated:
        killed = children()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: killed.isdisjoint(children()))
        assert await pid_of(isolated) not in killed


HANGS = {
    "blocking sleep": ("def", "time.sleep(600)"),
    "busy loop": ("def", "[0 for _ in iter(int, 1)]"),
    "holding the interpreter": ("def", "re.match('(a|a)*b', 'a' * 60)"),
    "blocking the loop": ("async def", "time.sleep(600)"),
    "waiting": ("async def", "await asyncio.sleep(600)"),
    "stopped": ("async def", "os.kill(os.getpid(), signal.SIGSTOP)"),
    "swallowing cancellation": (
        "async def",
        """
        while True:
            try:
                await asyncio.sleep(1)
            except BaseException:
                pass
        """,
    ),
}


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_worker_that_is_late_is_killed_and_others_answer_meanwhile(
    shelf: PluginFolder, kind: str
) -> None:
    bodies = {hang: body for hang, (of, body) in HANGS.items() if of == kind}
    async with shelf.serving(doing(one_of(bodies), kind), processes=2) as isolated:
        for hang in bodies:
            hanging = asyncio.create_task(service(isolated, hang))
            await asyncio.sleep(0.05)
            other = await pid_of(isolated)
            assert not hanging.done(), hang
            (stuck,) = children() - {other}
            hanging.cancel()
            await asyncio.wait((hanging,))
            assert hanging.cancelled(), hang
            await asyncio.to_thread(wait_for_end, stuck)
            assert is_running(other), hang


@pytest.mark.parametrize(
    "leak",
    [
        "KEPT.append(b'x' * 200_000_000); time.sleep(60)",
        "for _ in range(600): KEPT.append(b'x' * 1_000_000); time.sleep(0.01)",
    ],
    ids=["at once", "while it runs"],
)
async def test_a_worker_that_takes_too_much_memory_fails_by_name_and_is_replaced(
    shelf: PluginFolder, leak: str
) -> None:
    source = "KEPT = []\nclass Toy:\n    def __init__(self, settings): pass\n" + textwrap.indent(
        doing(f"if do == 'leak':\n    {leak}", "def"), "    "
    )
    async with (isolated := shelf.start(shelf.write(source), memory_mb=150)).lifespan():
        before = await pid_of(isolated)
        with pytest.raises(ChildError, match=r"toy-dist 1.2\) used \d+ MiB .* memory_mb is 150"):
            await service(isolated, "leak")
        assert await pid_of(isolated) != before


async def test_a_worker_that_leaks_between_two_calls_is_replaced_without_losing_one(
    shelf: PluginFolder,
) -> None:
    body = "if do == 'leak': self.task = asyncio.get_running_loop().call_later(0.05, self.leak)"
    source = doing(body) + "def leak(self): self.kept = b'x' * 200_000_000\n"
    async with shelf.serving(source, memory_mb=150) as isolated:
        before = int((await service(isolated, "leak")).reason)
        await asyncio.to_thread(wait_for_end, before)
        assert await pid_of(isolated) != before


async def test_a_chain_books_what_happens_in_a_worker_as_what_happens_here(
    shelf: PluginFolder,
) -> None:
    body = """
    match do:
        case 'none': return None
        case 'raise': raise ValueError('broken')
        case 'invalid': return 7
        case 'exit': os._exit(3)
        case 'hang':
            while True: pass
    """

    async def here(_: object) -> object:
        return Reject(reason="the next one")

    tasks = HookTasks(asyncio.get_running_loop())
    async with shelf.serving(doing(body, "def"), processes=2) as isolated:
        ask = isolated.hooks["service_configuration"]
        booked = {}
        for do in ("answer", "none", "raise", "invalid", "exit", "hang", "answer"):
            # A worker that was replaced has to start before it can answer.
            links = (
                BoundHook("toy", ask, timeout=0.2 if do == "hang" else 30.0),
                BoundHook("next", here),
            )
            chain = Chain(ENDPOINTS["service_configuration"], links, Continue(), budget=40.0)
            outcome = await chain.ask(request("service_configuration", do=do), tasks)
            booked[do] = [(step.plugin, step.outcome) for step in outcome.steps]
            await asyncio.sleep(0)
        assert tasks.abandoned == []
    await tasks.close()
    after = ("next", "decided")
    assert booked == {
        "answer": [("toy", "decided")],
        "none": [("toy", "abstained"), after],
        "raise": [("toy", "failed"), after],
        "invalid": [("toy", "invalid"), after],
        "exit": [("toy", "failed"), after],
        "hang": [("toy", "timed_out"), after],
    }


WAITS = """
while do == 'wait' and not os.path.exists('{gate}'):
    await asyncio.sleep(0.01)
"""


async def test_more_than_32_waiting_calls_are_refused_at_once(shelf: PluginFolder) -> None:
    gate = shelf.folder / "gate"
    async with shelf.serving(doing(WAITS.format(gate=gate))) as isolated:
        calls = [asyncio.create_task(service(isolated, "wait")) for _ in range(33)]
        await asyncio.sleep(0.05)
        with pytest.raises(PluginBusyError, match="32 calls are waiting"):
            await service(isolated)
        for call in calls[2:]:
            call.cancel()
        await asyncio.sleep(0)
        gate.touch()
        assert await pid_of(isolated) == int((await calls[0]).reason)
        await asyncio.wait(calls)
        assert not calls[1].cancelled()


LIFESPAN = """
@hookimpl
@asynccontextmanager
async def lifespan(self):
    folder = {folder!r}
    async def beat():
        while True:
            self.beats += 1
            await asyncio.sleep(0.01)
    self.beats, beating = 0, asyncio.create_task(beat())
    open(f"{{folder}}/{{os.getpid()}}.open", "w").close()
    try:
        yield
    finally:
        {end}
        open(f"{{folder}}/{{os.getpid()}}.closed", "w").close()

@hookimpl
def service_configuration(self, request):
    began = self.beats
    time.sleep(0.1)
    while self.beats == began:
        time.sleep(0.01)
    if request.params["do"] == "exit": os._exit(3)
    return Continue(reason=str(os.getpid()))
"""


async def test_the_lifespan_is_entered_in_each_worker_and_left_at_the_end(
    shelf: PluginFolder,
) -> None:
    source = LIFESPAN.format(folder=str(shelf.folder), end="await asyncio.sleep(0)")
    async with shelf.serving(source, processes=2) as isolated:
        assert len(list(shelf.folder.glob("*.open"))) == 2
        with pytest.raises(ChildError):
            await service(isolated, "exit")
        found: set[int] = set()
        async with asyncio.timeout(HANG_S):
            while len(found) < 2:
                found = set(await asyncio.gather(pid_of(isolated), pid_of(isolated)))
        assert found == children()
    assert len(list(shelf.folder.glob("*.closed"))) >= 1
    assert children() == set()


async def test_a_lifespan_that_does_not_end_is_ended_after_a_second(shelf: PluginFolder) -> None:
    source = LIFESPAN.format(folder=str(shelf.folder), end="time.sleep(600)")
    async with shelf.serving(source, processes=2) as isolated:
        assert await pid_of(isolated)
        began = time.monotonic()
    assert time.monotonic() - began > 0.9
    assert children() == set()


async def test_a_lifespan_that_cannot_begin_is_said_by_name(shelf: PluginFolder) -> None:
    source = """
    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        raise OSError("no database")
        yield
    @hookimpl
    async def service_configuration(self): return None
    """
    before = descriptors()
    with pytest.raises(ChildError, match=r"OSError: no database \(toy_"):
        async with shelf.serving(source, processes=2):
            pytest.fail("it must not serve")
    assert children() == set()
    assert descriptors() == before


async def test_nothing_is_left_of_workers_that_did_what_they_liked(shelf: PluginFolder) -> None:
    body = """
    if do == 'exit': os._exit(3)
    if do == 'children':
        import subprocess
        self.child = subprocess.Popen(['sleep', '60'])
        return Continue(reason=str(self.child.pid))
    while do == 'hang': pass
    """
    before = descriptors()
    async with shelf.serving(doing(body, "def"), processes=2) as isolated:
        begotten = [int((await service(isolated, "children")).reason) for _ in range(3)]
        for _ in range(3):
            with pytest.raises(ChildError):
                await service(isolated, "exit")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await service(isolated, "hang")
        await asyncio.to_thread(wait_for_end, *begotten)
    assert children() == set()
    assert descriptors() == before


def test_nothing_is_left_of_a_policy_that_never_served(shelf: PluginFolder) -> None:
    before = descriptors()
    shelf.start(shelf.hooks(doing("")), processes=2)
    with pytest.raises(PluginBuildError):
        shelf.start(shelf.write("1 / 0"), processes=2)
    assert children() == set()
    assert descriptors() == before


def test_a_plugin_that_does_not_get_built_is_not_waited_for_without_end(
    shelf: PluginFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pexpolicy.isolation.isolated_plugin.START_TIMEOUT_S", 0.5)
        with pytest.raises(PluginBuildError, match=r"toy \(toy-dist 1.2\).* was not ready in time"):
            shelf.start(shelf.write("time.sleep(600)"))
    with pytest.raises(PluginBuildError, match=r"toy \(toy-dist 1.2\).* ended with exit code 9"):
        shelf.start(shelf.write("os._exit(9)"))
    assert children() == set()


PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from importlib.metadata import EntryPoint
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.isolation.isolated_plugin import IsolatedPlugin
from tests.support.isolated import children, service

entry = EntryPoint("toy", sys.argv[1], "pexpolicy")
available = PluginSource("toy", "toy-dist", "1.2", entry.value, entry.load)
isolated = IsolatedPlugin(available, PluginTable(processes=2), Path("."))

async def main():
    async with isolated.lifespan():
        hanging = asyncio.create_task(service(isolated, "hang"))
        await service(isolated)
        print(*children(), flush=True)
        await hanging

# A shell that runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_when_the_server_dies_even_inside_a_busy_loop(
    shelf: PluginFolder, number: signal.Signals
) -> None:
    hang = "if do == 'hang': re.match('(a|a)*b', 'a' * 60)"
    available = shelf.hooks(doing(hang, "def"))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, available.source],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(is_running(pid) for pid in workers)
        try:
            parent.send_signal(number)
            wait_for_end(parent.pid, *workers)
        finally:
            parent.kill()


async def test_a_worker_inherits_no_sockets_of_the_server(shelf: PluginFolder) -> None:
    body = """
    links = [os.path.realpath(e.path) for e in os.scandir('/proc/self/fd')]
    return Reject(reason=' '.join(link.rpartition('/')[2] for link in links))
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        inode = f"socket:[{os.fstat(listening.fileno()).st_ino}]"
        async with shelf.serving(doing(body)) as isolated:
            found = (await service(isolated)).reason
    assert "socket:" in found
    assert inode not in found


async def test_an_answer_that_is_too_long_for_the_way_is_a_failure(shelf: PluginFolder) -> None:
    source = """
    @hookimpl
    async def directory_information(self):
        entry = DirectoryEntry(alias="a" * 200, description="b" * 200)
        return Directory(entries=[entry] * 50_000)
    """
    async with shelf.serving(source) as isolated:
        ask: Any = isolated.hooks["directory_information"]
        with pytest.raises(ChildError, match="exceed the limit of a message"):
            await ask(request("directory_information"))
        decision = await ask(request("directory_information", limit="3"))
    assert len(decision.set_fields()["entries"]) == 3
