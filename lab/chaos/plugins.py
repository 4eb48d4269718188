"""The matrix: what waits, what raises, what answers nonsense, and what the other tables hold."""

from lab.chaos.case import BAD, DEFAULT, MINE, REJECT, Case, hook
from lab.chaos.isolated_plugins import ISOLATED
from lab.chaos.process_control import ON_THE_LOOP
from lab.chaos.process_state import PROCESS_STATE
from lab.chaos.server_process import LIFE

SHORT = "timeout = 0.2"
STRICT = 'on_error = "reject"'
LATE = ("timed_out",)
STUCK = ("timed_out", "busy")

SWALLOWS = """
while True:
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        pass
"""
ANSWERS_LATE = f"""
try:
    await asyncio.sleep(10)
except asyncio.CancelledError:
    return {MINE}
"""
OWN_TIMEOUT = """
async with asyncio.timeout(0.01):
    await asyncio.sleep(10)
"""
SLEEPS = "await asyncio.sleep(10)"
BLOCKS = "time.sleep(10)"

WAITING = (
    Case("async sleep 10 s", hook(SLEEPS), SHORT, LATE),
    Case("async sleep 10 s, reject", hook(SLEEPS), f"{SHORT}\n{STRICT}", LATE, replies=(REJECT,)),
    Case("async sleep 10 s, no own limit", hook(SLEEPS), "timeout = 4.0", LATE, replies=(DEFAULT,)),
    Case("blocking sleep 10 s", hook(BLOCKS, blocks=True), f"{SHORT}\nthreads = 2", STUCK, STUCK),
    Case(
        "blocking sleep 10 s, reject",
        hook(BLOCKS, blocks=True),
        f"{SHORT}\nthreads = 2\n{STRICT}",
        STUCK,
        STUCK,
        replies=(REJECT,),
    ),
    Case(
        "a thread that never returns",
        hook("threading.Event().wait()", blocks=True),
        f"{SHORT}\nthreads = 1",
        STUCK,
        STUCK,
        says="did not stop in time: bad",
    ),
    Case("swallows cancellation", hook(SWALLOWS), SHORT, LATE),
    Case("answers when it is cancelled", hook(ANSWERS_LATE), SHORT, LATE),
    Case(
        "blocks the loop for longer than its timeout",
        hook(f"time.sleep(0.15)\nreturn {MINE}"),
        "timeout = 0.1",
        LATE,
        says="bad held the event loop",
    ),
    Case(
        "blocks the loop within its timeout",
        hook(f"time.sleep(0.12)\nreturn {MINE}"),
        "timeout = 1.0",
        ("decided",),
        replies=(BAD,),
        says="bad held the event loop",
    ),
    Case(
        "circuit breaker of one that hangs",
        hook(SLEEPS),
        f"{SHORT}\nbreaker = {{ failures = 3, window = 30.0, pause = 30.0 }}",
        ("timed_out", "skipped"),
        ("timed_out", "skipped"),
        detail="breaker is open",
    ),
)

BROKEN_STR = """
class Broken(Exception):
    def __str__(self):
        raise SystemExit(3)
    __repr__ = __str__
raise Broken
"""
GROUP = 'raise BaseExceptionGroup("both", [SystemExit(1), KeyboardInterrupt()])'
RECURSION = """
def deeper():
    return deeper()
deeper()
"""
ODD = {
    "SystemExit": "raise SystemExit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "RecursionError": RECURSION,
    "MemoryError": "bytearray(1 << 62)",
    "CancelledError": "raise asyncio.CancelledError",
    "GeneratorExit": "raise GeneratorExit",
    "StopIteration": "raise StopIteration(1)",
    "its own TimeoutError": OWN_TIMEOUT,
    "a group of them": GROUP,
    "an exception whose text raises SystemExit": BROKEN_STR,
}
NO_WAITING = {**ODD, "its own TimeoutError": "raise TimeoutError"}
RAISING = (
    *(Case(f"raises {name}", hook(body)) for name, body in ODD.items()),
    *(
        Case(f"raises {name} after a wait", hook(f"await asyncio.sleep(0.01)\n{body}"))
        for name, body in ODD.items()
    ),
    *(
        Case(f"raises {name} in a thread", hook(body, blocks=True), STRICT, replies=(REJECT,))
        for name, body in NO_WAITING.items()
    ),
)

CYCLE = """
cycle = {"name": "x"}
cycle["service_type"] = cycle
return cycle
"""
LONG = 'Conference(name="x" * 10_000_000, service_tag="x")'
SURROGATE = 'Conference(name="\\ud800", service_tag="x")'
INVALID = ("invalid",)
ANSWERING = (
    Case("answers a number", hook("return 42"), outcomes=INVALID),
    Case("answers a number, reject", hook("return 42"), STRICT, INVALID, replies=(REJECT,)),
    Case("answers False", hook("return False"), outcomes=INVALID),
    Case(
        "answers another endpoint's decision",
        hook('return MediaLocation(location="x")'),
        outcomes=INVALID,
    ),
    Case("answers a class", hook("return Conference"), outcomes=INVALID),
    Case("answers a generator", hook(f"return (it for it in [{MINE}])"), outcomes=INVALID),
    Case(
        "answers a generator in a thread",
        hook(f"return (it for it in [{MINE}])", blocks=True),
        outcomes=INVALID,
    ),
    Case("answers a coroutine", hook(f"return asyncio.sleep(0, {MINE})"), outcomes=INVALID),
    Case(
        "answers an object whose every attribute raises",
        hook(
            "class Odd:\n    def __getattribute__(self, name):\n        raise KeyboardInterrupt\n"
            "return Odd()"
        ),
        outcomes=("invalid", "failed"),
        must=("failed",),
    ),
    Case("answers 10 MB", hook(f"return {LONG}"), outcomes=INVALID),
    Case(
        "answers 10 MB as a dictionary",
        hook('return {"name": "x" * 10_000_000}'),
        outcomes=INVALID,
    ),
    Case("answers a dictionary that holds itself", hook(CYCLE), outcomes=INVALID),
    Case(
        "answers NaN",
        hook('return Conference(name="x", service_tag="x", max_callrate_in=float("nan"))'),
        outcomes=INVALID,
    ),
    Case("answers lone surrogates", hook(f"return {SURROGATE}"), outcomes=INVALID),
)

CASES = (*WAITING, *RAISING, *ANSWERING, *LIFE, *ON_THE_LOOP, *PROCESS_STATE, *ISOLATED)
