"""Plugins that lay hands on what they share with everybody: the loop, its tasks, the process."""

from lab.chaos.case import BAD, MINE, Case, hook

DECIDED = ("decided",)
CANCELS_ALL = f"""
for task in asyncio.all_tasks():
    if task is not asyncio.current_task():
        task.cancel()
return {MINE}
"""
LEAKS_TASKS = f"""
for _ in range(20):
    asyncio.create_task(asyncio.sleep(60))
return {MINE}
"""
LEAKS_RAISING = f"""
async def dies():
    raise SystemExit(0)
asyncio.create_task(dies())
return {MINE}
"""
CANCELS_ITSELF = f"""
asyncio.current_task().cancel()
return {MINE}
"""
CANCELS_AND_WAITS = """
asyncio.current_task().cancel()
await asyncio.sleep(10)
"""
BAD_CALLBACK = f"""
def dies():
    raise SystemExit(0)
asyncio.get_running_loop().call_soon(dies)
return {MINE}
"""

ON_THE_LOOP = (
    Case("leaks tasks", hook(LEAKS_TASKS), outcomes=DECIDED, replies=(BAD,)),
    Case("leaks tasks that exit", hook(LEAKS_RAISING), outcomes=DECIDED, replies=(BAD,)),
    Case("leaks callbacks that exit", hook(BAD_CALLBACK), outcomes=DECIDED, replies=(BAD,)),
    Case("cancels its own task", hook(CANCELS_ITSELF), outcomes=DECIDED, replies=(BAD,)),
    Case("cancels its own task and waits", hook(CANCELS_AND_WAITS)),
    Case(
        "cancels all tasks of the loop",
        hook(CANCELS_ALL),
        outcomes=("decided",),
        replies=(BAD,),
        interrupts=True,
    ),
    Case(
        "cancels all tasks of the loop after a wait",
        hook(f"await asyncio.sleep(0.01)\n{CANCELS_ALL}"),
        outcomes=("decided",),
        replies=(BAD,),
        interrupts=True,
    ),
    Case(
        "waits in a thread of the loop that never returns",
        hook("await asyncio.to_thread(threading.Event().wait)"),
        "timeout = 0.2",
        ("timed_out",),
        says="did not stop in time",
    ),
    Case(
        "leaves a thread that never ends",
        hook(f"threading.Thread(target=threading.Event().wait).start()\nreturn {MINE}"),
        outcomes=DECIDED,
        replies=(BAD,),
        says="did not stop in time",
    ),
    Case(
        "stops the loop",
        hook(f"asyncio.get_running_loop().stop()\nreturn {MINE}"),
        outcomes=DECIDED,
        replies=(BAD,),
    ),
    Case("closes the loop", hook("asyncio.get_running_loop().close()")),
    Case(
        "closes standard output and standard error",
        hook(f"sys.stdout.close()\nsys.stderr.close()\nreturn {MINE}"),
        outcomes=DECIDED,
        replies=(BAD,),
    ),
    Case(
        "replaces standard output and standard error",
        hook(f"sys.stdout = sys.stderr = None\nreturn {MINE}", blocks=True),
        outcomes=DECIDED,
        replies=(BAD,),
    ),
    Case(
        "replaces signal handlers in a thread",
        hook("signal.signal(signal.SIGTERM, signal.SIG_IGN)", blocks=True),
    ),
    Case(
        "sets an exception hook that exits",
        hook(
            "asyncio.get_running_loop().set_exception_handler(lambda *_: sys.exit(0))\n"
            "raise OSError"
        ),
    ),
)
