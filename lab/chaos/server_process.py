"""Plugins that fail during import, construction, lifespan, observation or shutdown."""

import os

from lab.chaos.case import BAD, HEAD, NEXT, Case, good, hook

LIFESPAN = """
@hookimpl
@asynccontextmanager
async def lifespan(self):
    {entering}
    yield
    {leaving}

"""
DECIDED = ("decided",)
SLEEPS = "await asyncio.sleep(60)"
NOT_ASKED: tuple[str, ...] = ()
SHADOW = 'mode = "shadow"\ntimeout = 0.3'


def lifespan(entering: str = "pass", leaving: str = "pass") -> str:
    """Return a module whose hook answers correctly, and whose lifespan does this."""
    return good(LIFESPAN.format(entering=entering, leaving=leaving))


def observing(body: str, *, blocks: bool = False) -> str:
    """Return a module that observes decisions and answers correctly."""
    return hook(
        body,
        blocks=blocks,
        also="@hookimpl\nasync def service_configuration(self, request):\n"
        '    return Conference(name="bad", service_tag="bad")\n',
        name="on_decision",
    )


LIFE = (
    Case("cannot be imported", f"{HEAD}\nimport no_such_module\n", says="bad (", starts=False),
    Case("exits as it is imported", f"{HEAD}\nsys.exit(0)\n", says="bad (", starts=False),
    Case("is no Python", "class Bad(:\n", says="bad (", starts=False),
    Case(
        "constructor raises",
        good("def __init__(self, settings):\n    raise KeyboardInterrupt\n"),
        says="bad (",
        starts=False,
    ),
    Case(
        "lifespan raises on enter",
        lifespan("raise SystemExit(0)"),
        says="bad (",
        starts=False,
        code=os.EX_TEMPFAIL,
    ),
    Case(
        "lifespan hangs on enter",
        lifespan(SLEEPS),
        says="bad (",
        starts=False,
        code=os.EX_TEMPFAIL,
    ),
    Case(
        "lifespan raises on exit",
        lifespan(leaving="raise OSError('gone')"),
        outcomes=DECIDED,
        replies=(BAD,),
        says="gone",
    ),
    Case(
        "lifespan exits on exit",
        lifespan(leaving="raise SystemExit(7)"),
        outcomes=DECIDED,
        replies=(BAD,),
        says="SystemExit",
    ),
    Case(
        "lifespan hangs on exit",
        lifespan(leaving=SLEEPS),
        outcomes=DECIDED,
        replies=(BAD,),
        says="bad",
    ),
    Case(
        "shadow hangs",
        hook("await asyncio.sleep(10)"),
        SHADOW,
        NOT_ASKED,
        replies=(NEXT,),
    ),
    Case("shadow raises", hook("raise SystemExit(0)"), SHADOW, NOT_ASKED, replies=(NEXT,)),
    Case(
        "shadow blocks its threads",
        hook("time.sleep(10)", blocks=True),
        f"{SHADOW}\nthreads = 1",
        NOT_ASKED,
        replies=(NEXT,),
    ),
    Case(
        "observer hangs",
        observing("await asyncio.sleep(10)"),
        "timeout = 0.2",
        DECIDED,
        replies=(BAD,),
        says="no answer within 0.2 s",
    ),
    Case(
        "observer swallows cancellation",
        observing(
            "while True:\n    try:\n        await asyncio.sleep(10)\n"
            "    except asyncio.CancelledError:\n        pass"
        ),
        "timeout = 0.2",
        DECIDED,
        replies=(BAD,),
        says="no answer within 0.2 s",
    ),
    Case(
        "observer raises",
        observing("raise SystemExit(0)"),
        outcomes=DECIDED,
        replies=(BAD,),
        says="SystemExit",
    ),
    Case(
        "observer raises after a wait",
        observing("await asyncio.sleep(0.01)\nraise KeyboardInterrupt"),
        outcomes=DECIDED,
        replies=(BAD,),
        says="KeyboardInterrupt",
    ),
    Case(
        "observer blocks its threads",
        observing("time.sleep(10)", blocks=True),
        "threads = 1\ntimeout = 0.2",
        DECIDED,
        replies=(BAD,),
        says="did not stop in time: bad",
    ),
)
