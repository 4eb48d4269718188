"""Jumps of the wall clock under load, by a library that is loaded before the C library."""

import mmap
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

from lab.audit.server import TARGETS, audit_files, check, under_load, wait_for
from lab.load import load
from lab.report import Finding

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


async def jumped(folder: Path, jumps: tuple[int, ...], calls: int) -> Finding:
    """Let the clock of a server jump, with ``calls`` after each jump, and in between rotate."""
    finding = Finding("jumps of the clock", f"{len(jumps)} jumps")
    if COMPILER is None:
        raise PermissionError("there is no C compiler")
    (own := folder / "server").mkdir()
    file = folder / "offset"
    file.write_bytes(bytes(8))
    environment = {"LD_PRELOAD": str(_library(folder)), "CLOCK_OFFSET_FILE": str(file)}
    table = 'path = "audit.jsonl"\nrotate_mb = 1'
    ids: list[str] = []
    offset = 0
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as mapped:
        running = under_load(
            own, finding, ids, table, connections=CONNECTIONS, environment=environment
        )
        async with running as (server, many), load(server.port, 1, 0, TARGETS) as one:
            for jump in (*jumps, 0):
                await wait_for(many, calls)
                offset += jump
                mapped[:] = offset.to_bytes(8, "little", signed=True)
    rising = one.ids
    ids += rising
    finding.longest = max(finding.longest, one.longest)
    finding.expect_within(finding.longest, MAX_CALL_S, "a call")
    finding.expect(len(set(ids)) == len(ids), "an id was used twice")
    falls = sum(later <= earlier for earlier, later in pairwise(rising))
    finding.expect(not falls, f"ids do not rise in {falls} places")
    finding.expect(b"reload" not in server.log, "the server reloaded")
    finding.notes.append(f"{len(audit_files(own)) - 1} rotations")
    return await check(finding, ids, audit_files(own))
