"""Plugins in worker processes of their own, which can do there what nothing else survives."""

from tests.experiments.chaos.case import MINE, NEXT, Case, hook

APART_TABLE = 'isolation = "process"\ntimeout = 0.4'
GONE = ("failed", "timed_out", "busy")
LATE = ("timed_out", "busy", "failed")

BUSY = "while True:\n    pass"
SEGFAULT = "ctypes.string_at(0)"
EATS = """
kept = []
while True:
    kept.append(bytearray(b"x" * (8 << 20)))
    await asyncio.sleep(0.005)
"""
CLOSES_ALL = f"os.closerange(0, 256)\nreturn {MINE}"
FORKS = "os.fork()\ntime.sleep(10)"


def apart(
    name: str,
    body: str,
    outcomes: tuple[str, ...],
    also: str = "",
    *,
    blocks: bool = False,
    detail: str = "",
    says: str = "",
) -> Case:
    """A case with isolation = "process"."""
    table = f"{APART_TABLE}\n{also}" if "timeout" not in also else f'isolation = "process"\n{also}'
    return Case(
        f"apart: {name}",
        hook(body, blocks=blocks),
        table,
        outcomes,
        replies=(NEXT,),
        detail=detail,
        says=says,
    )


APART = (
    apart("async def that blocks 10 s", "time.sleep(10)", LATE),
    apart("def that blocks 10 s", "time.sleep(10)", LATE, blocks=True),
    apart("busy loop", BUSY, LATE),
    apart(
        "swallows signals", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n" + BUSY, LATE
    ),
    apart("os._exit", "os._exit(3)", GONE, detail="exit code 3"),
    apart("sys.exit", "sys.exit(3)", GONE),
    apart("kills itself", "os.kill(os.getpid(), signal.SIGKILL)", GONE, detail="SIGKILL"),
    apart("segmentation fault", SEGFAULT, GONE, detail="SIGSEGV"),
    apart("leaks memory", EATS, GONE, "memory_mb = 128\ntimeout = 2.0", detail="memory"),
    apart("closes all its files", CLOSES_ALL, GONE),
    apart("forks and blocks", FORKS, LATE),
    apart("kills its group", "os.killpg(0, signal.SIGKILL)", GONE, detail="SIGKILL"),
    apart("stops the loop", "asyncio.get_running_loop().stop()\nawait asyncio.sleep(10)", GONE),
    apart(
        "answers 10 MB",
        'return Conference(name="x" * 10_000_000, service_tag="x")',
        ("invalid", "failed", "timed_out", "busy"),
    ),
    apart(
        "cancels all tasks",
        "[t.cancel() for t in asyncio.all_tasks()]\nawait asyncio.sleep(10)",
        GONE,
    ),
)
