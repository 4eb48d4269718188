"""Traversals of the folder of the plugin `avatars`, and the cost of a cached picture."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pexpolicy import Alias
from pexpolicy_avatars.folder import Folder
from pexpolicy_avatars.source import PictureError
from pexpolicy_avatars.template import Template
from tests.support import live_server, traversal, wire
from tests.support.avatars import picture

FILES = ("{alias}.jpg", "{user}.png", "{host}.jpg", "{user}@{host}.jpg")
PEOPLE = 1000
CONFIG = """
[audit]
path = "audit.jsonl"

[plugins.avatars.settings]
folder = "pictures"
domains = ["example.com"]
"""
LOAD = """
local number = 0
request = function()
  number = (number + 1) % %d
  local path = "%suser-" .. number .. "%%40example.com?width=100&height=100&call_tag=" .. number
  return wrk.format("GET", path)
end
done = function(summary)
  local failed = summary.errors.status + summary.errors.read + summary.errors.write
  io.write("calls=", summary.requests, " failed=", failed + summary.errors.timeout, "\\n")
end
"""


def paths_opened_outside(root: Path, count: int) -> tuple[int, Sequence[str]]:
    """Return how many pictures were found, and the files opened outside of the folder."""
    folder = traversal.surrounded(root)
    source = Folder(folder, [Template(text) for text in FILES])
    texts = list(traversal.generated(count))
    opened: list[str] = []
    is_recording = True

    def record(event: str, arguments: tuple[object, ...]) -> None:
        if is_recording and event in ("open", "os.listdir", "os.scandir"):
            name = arguments[0]
            if not isinstance(name, int):  # a descriptor was a path before
                opened.append(str(name))

    sys.addaudithook(record)
    found = 0
    for text in texts:
        with suppress(PictureError):
            content = source.read(Alias(text))
            found += content is not None
            assert content in (None, traversal.INSIDE), text
    is_recording = False
    assert len(opened) > found
    inside = str(folder.resolve())
    return found, [
        path
        for path in opened
        if os.path.realpath(path) != inside and os.path.dirname(os.path.realpath(path)) != inside  # noqa: PTH120 - as realpath
    ]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with its threads."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def calls_per_second(folder: Path, seconds: int) -> tuple[float, float]:
    """Return cached pictures a second of the server's CPU time, and of the clock."""
    (folder / "pictures").mkdir()
    (folder / "config.toml").write_text(CONFIG)
    for number in range(PEOPLE):
        (folder / "pictures" / f"user-{number}.jpg").write_bytes(picture((400, 300)))
    (folder / "load.lua").write_text(
        LOAD.replace("%d", str(PEOPLE)).replace("%s", wire.AVATAR).replace("%%", "%")
    )
    with live_server.running(folder / "config.toml", folder=folder) as server:
        os.sched_setaffinity(server.pid, {min(os.sched_getaffinity(0))})
        for number in range(PEOPLE):
            alias = f"user-{number}%40example.com"
            assert server.ask(f"{wire.AVATAR}{alias}?width=100&height=100").status == 200
        command = (
            "wrk",
            "-t1",
            "-c16",
            f"-d{seconds}s",
            "-s",
            str(folder / "load.lua"),
            server.url,
        )
        before, began = cpu_seconds(server.pid), time.monotonic()
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        took, spent = time.monotonic() - began, cpu_seconds(server.pid) - before
    line = next(line for line in said.splitlines() if line.startswith("calls="))
    calls, failed = (int(part.partition("=")[2]) for part in line.split())
    assert failed == 0, said
    return calls / spent, calls / took
