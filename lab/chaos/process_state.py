"""Plugins that change, use up or break what the whole process shares, and answer correctly."""

from lab.chaos.case import BAD, MINE, Case, hook

WRITER = """
class Writer:
    def write(self, *_):
        raise OSError
    def flush(self):
        pass
sys.stdout = sys.stderr = Writer()
"""
THREADS = """
if threading.active_count() < 500:
    for _ in range(500):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
"""
EXECUTOR = """
from concurrent.futures import ThreadPoolExecutor
other = ThreadPoolExecutor(1)
other.submit(time.sleep, 30)
asyncio.get_running_loop().set_default_executor(other)
"""
STRUCTLOG = """
import structlog
def fails(*_):
    raise SystemExit
structlog.configure(processors=[fails], cache_logger_on_first_use=False)
"""
LOGGING = """
import logging
logging.getLogger().handlers.clear()
logging.basicConfig(force=True, level=0)
logging.disable(100)
"""
LOG_FLOOD = """
import logging
for number in range(500):
    logging.getLogger("flood").error("line %s", number)
"""
REFERENCES = """
import weakref
class Kept:
    def __del__(self):
        raise SystemExit
def fails(_):
    raise SystemExit
kept = Kept()
globals().setdefault("references", []).append(weakref.ref(kept, fails))
del kept
"""
GENERATOR = """
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        raise SystemExit
await anext(numbers())
"""
FORKS = """
child = os.fork()
if child == 0:
    os._exit(1)
os.waitpid(child, 0)
"""
HANGS_UP = """
hung_up = globals().setdefault("hung_up", [])
if len(hung_up) < 3:
    hung_up.append(os.kill(os.getpid(), signal.SIGHUP))
"""
FILES = """
files = globals().setdefault("files", [])
if len(files) < 400:
    files += [open("/dev/null") for _ in range(100)]
"""
CHANGES_REQUEST = """
try:
    object.__setattr__(request, "local_alias", "x")
except (AttributeError, TypeError):
    pass
"""
CHANGES = {
    "lets standard error raise": WRITER,
    "lets unraisable errors raise": "sys.unraisablehook = lambda *_: 1 / 0",
    "starts 500 threads": THREADS,
    "opens 400 files": FILES,
    "writes much to standard error": "sys.stderr.write('y' * 200_000 + '\\n')",
    "logs 500 lines": LOG_FLOOD,
    "takes over logging": LOGGING,
    "takes over structlog": STRUCTLOG,
    "changes the folder": "os.chdir('/')",
    "sets a umask of 777": "os.umask(0o777)",
    "clears the environment": "os.environ.clear()",
    "sets a time limit of sockets": "import socket\nsocket.setdefaulttimeout(0.0001)",
    "sets a recursion limit of 60": "sys.setrecursionlimit(60)",
    "sets a switch interval of 5 s": "sys.setswitchinterval(5)",
    "collects at each object": "import gc\ngc.set_threshold(1)",
    "turns warnings into errors": "import warnings\nwarnings.simplefilter('error')",
    "sets the seed": "import random\nrandom.seed(0)",
    "sets time zone and locale": "os.environ['TZ'] = 'Asia/Kathmandu'\ntime.tzset()",
    "stops the clock of the module time": "time.monotonic = time.time = lambda: 0.0",
    "breaks json": "import json\njson.dumps = json.loads = lambda *_, **__: 1 / 0",
    "breaks open and print": "import builtins\n"
    "builtins.print = builtins.open = lambda *_, **__: 1 / 0",
    "forgets loaded modules": "for name in list(sys.modules):\n"
    "    if name.startswith(('json', 'asyncio.')):\n        del sys.modules[name]",
    "clears the import path": "sys.path.clear()\nsys.meta_path.clear()",
    "traces its thread": "sys.settrace(lambda *_: None)\nsys.setprofile(lambda *_: None)",
    "sets debug mode of the loop": "asyncio.get_running_loop().set_debug(True)",
    "removes the event loop of the thread": "asyncio.set_event_loop(None)",
    "closes the executor of the loop": "loop = asyncio.get_running_loop()\n"
    "await loop.shutdown_default_executor()",
    "replaces the executor of the loop": EXECUTOR,
    "removes the wakeup descriptor of signals": "signal.set_wakeup_fd(-1)",
    "sends SIGHUP": HANGS_UP,
    "forks a child that exits": FORKS,
    "leaves references that raise": REFERENCES,
    "leaves an asynchronous generator": GENERATOR,
    "changes its request": CHANGES_REQUEST,
}
PROCESS_STATE = tuple(
    Case(name, hook(f"{body.strip()}\nreturn {MINE}"), outcomes=("decided",), replies=(BAD,))
    for name, body in CHANGES.items()
)
