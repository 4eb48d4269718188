"""Plugins in isolated worker processes, with faults that would end the server."""

from lab.chaos.case import MINE, NEXT, Case, hook

ISOLATED_TABLE = 'isolation = "process"\ntimeout = 0.4'
GONE = ("failed", "timed_out", "busy")
LATE = ("timed_out", "busy", "failed")

BUSY = "while True:\n    pass"
SEGFAULT = "ctypes.string_at(0)"
EATS = """
leaked = []
while True:
    leaked.append(bytearray(b"x" * (8 << 20)))
    await asyncio.sleep(0.005)
"""
CLOSES_ALL = f"os.closerange(0, 256)\nreturn {MINE}"
FORKS = "os.fork()\ntime.sleep(10)"


def isolated(
    name: str,
    body: str,
    outcomes: tuple[str, ...],
    also: str = "",
    *,
    blocks: bool = False,
    detail: str = "",
    says: str = "",
    must: tuple[str, ...] | None = None,
) -> Case:
    """Return a case with isolation = "process"."""
    table = (
        f"{ISOLATED_TABLE}\n{also}" if "timeout" not in also else f'isolation = "process"\n{also}'
    )
    return Case(
        f"isolated: {name}",
        hook(body, blocks=blocks),
        table,
        outcomes,
        replies=(NEXT,),
        detail=detail,
        says=says,
        must=must,
    )


ISOLATED = (
    isolated("async def that blocks 10 s", "time.sleep(10)", LATE),
    isolated("def that blocks 10 s", "time.sleep(10)", LATE, blocks=True),
    isolated("busy loop", BUSY, LATE),
    isolated(
        "swallows signals", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n" + BUSY, LATE
    ),
    isolated("os._exit", "os._exit(3)", GONE, detail="exit code 3"),
    isolated("sys.exit", "sys.exit(3)", GONE),
    isolated("kills itself", "os.kill(os.getpid(), signal.SIGKILL)", GONE, detail="SIGKILL"),
    isolated("segmentation fault", SEGFAULT, GONE, detail="SIGSEGV"),
    isolated("leaks memory", EATS, GONE, "memory_mb = 128\ntimeout = 2.0", detail="memory"),
    isolated("closes all its files", CLOSES_ALL, GONE, must=()),
    isolated("forks and blocks", FORKS, LATE),
    isolated("kills its group", "os.killpg(0, signal.SIGKILL)", GONE, detail="SIGKILL"),
    isolated("stops the loop", "asyncio.get_running_loop().stop()\nawait asyncio.sleep(10)", GONE),
    isolated(
        "answers 10 MB",
        'return Conference(name="x" * 10_000_000, service_tag="x")',
        ("invalid", "failed", "timed_out", "busy"),
    ),
    isolated(
        "cancels all tasks",
        "[t.cancel() for t in asyncio.all_tasks()]\nawait asyncio.sleep(10)",
        GONE,
    ),
)
