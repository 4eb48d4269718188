"""Jumps of the wall clock under load, by a library that is loaded before the C library."""

import asyncio
import mmap
import shutil
import subprocess
from pathlib import Path

from lab.audit.load import Answers, load
from lab.audit.server import Finding, Server, audit_files, check
from tests.support.waiting import wait_until

COMPILER = shutil.which("cc")
DAY_S = 86_400
JUMPS_S = (
    *(1, -1, 2, -2, 60, -60, 3600, -3600, DAY_S, -DAY_S, 366 * DAY_S, -366 * DAY_S),
    *(7305 * DAY_S, -7305 * DAY_S, -7305 * DAY_S, 7305 * DAY_S, -DAY_S, 1),
)
"""Seconds by which the clock jumps, one after the other; 7305 days are 20 years."""
CONNECTIONS = 4
MAX_CALL_S = 4.0
SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile const long long *offset;

__attribute__((constructor)) static void map_offset(void) {
    int file = open(getenv("CLOCK_OFFSET_FILE"), O_RDONLY);
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    offset = mapped == MAP_FAILED ? NULL : mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = next(clock, now);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


def _library(folder: Path) -> Path:
    """Compile the library."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(SOURCE)
    command = (COMPILER or "cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl")
    subprocess.run(command, check=True, capture_output=True)
    return library


def _wait_for_more(answers: Answers, calls: int) -> None:
    until = len(answers.ids) + calls
    wait_until(lambda: len(answers.ids) >= until)


async def jumped(folder: Path, jumps: tuple[int, ...], calls: int) -> Finding:
    """Let the clock of a server jump, with ``calls`` after each jump, and in between rotate."""
    finding = Finding("jumps of the clock", f"{len(jumps)} jumps")
    if COMPILER is None:
        return Finding(finding.name, "not run", notes=["there is no C compiler"])
    own = folder / "server"
    own.mkdir()
    file = folder / "offset"
    file.write_bytes(bytes(8))
    environment = {"LD_PRELOAD": str(_library(folder)), "CLOCK_OFFSET_FILE": str(file)}
    table = 'path = "audit.jsonl"\nrotate_mb = 1'
    server = await Server(own, table).start(environment=environment)
    offset = 0
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as mapped:
        async with load(server.port, CONNECTIONS) as many, load(server.port, 1) as one:
            for jump in jumps:
                await asyncio.to_thread(_wait_for_more, many, calls)
                offset += jump
                mapped[:] = offset.to_bytes(8, "little", signed=True)
            await asyncio.to_thread(_wait_for_more, many, calls)
    await server.stop()
    finding.longest = max(many.longest, one.longest)
    if finding.longest > MAX_CALL_S:
        finding.wrong.append("a call was answered late")
    ids = many.ids + one.ids
    if len(set(ids)) != len(ids):
        finding.wrong.append("an id was used twice")
    falls = sum(later <= earlier for earlier, later in zip(one.ids, one.ids[1:], strict=False))
    if falls:
        finding.wrong.append(f"ids do not rise in {falls} places")
    if b"reload" in server.log:
        finding.wrong.append("the server reloaded")
    paths = audit_files(own)
    finding.notes.append(f"{len(paths) - 1} rotations")
    await asyncio.to_thread(check, finding, ids, paths)
    return finding
