"""Command that runs the access control experiments; exit code 1 if anything was wrong.

``bodies``: compressed bodies on 400 connections. ``heads``: heads that do not end, on 600.
``requests``: unknown paths on 10, as fast as they are answered. ``unauthorised``: the same without
credentials. ``handshakes``: TLS handshakes that are not finished, on 400. ``silent``, ``half-
sent``, ``refused``, ``silent tls`` and ``hello tls``: first calls of new nodes while thousands hold
connections on which they sent nothing, a half request, an unknown path, no TLS, and the start of a
handshake. ``slow``: hundreds of half-sent, dripping and silent connections. ``renewal``:
certificates renewed under load, some of them invalid at first. ``guessing``: password guessing.
``credentials``: all but the right ones. ``changes``: other credentials with each request of a
connection. ``pipelined``: many requests at once, some of whose replies are not read.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from lab.chaos.access.admission import Admission
from lab.chaos.access.flood import Flood
from lab.chaos.access.newcomers import SENT, Newcomers
from lab.chaos.access.password_guessing import GuessingResult
from lab.chaos.access.renewal import Renewal
from lab.chaos.access.run import (
    run_changes,
    run_credentials,
    run_flood,
    run_newcomers,
    run_password_guessing,
    run_pipelined,
    run_renewal,
    run_slow,
)
from lab.chaos.access.slow import Slow

NAMES = (
    *(
        "bodies",
        "heads",
        "requests",
        "unauthorised",
        "handshakes",
        *SENT,
        "slow",
        "renewal",
        "guessing",
    ),
    *("credentials", "changes", "pipelined"),
)


Result = Slow | Renewal | GuessingResult | Flood | Admission | Newcomers


def main() -> int:
    """Parse the options, run the experiments, print a line for each."""
    options = argparse.ArgumentParser(prog="python -m lab.chaos.access", description=__doc__)
    options.add_argument("--clients", type=int, default=500, help="slow clients")
    options.add_argument("--strangers", type=int, default=3000, help="while new nodes call")
    options.add_argument("--renewals", type=int, default=100)
    options.add_argument("--seconds", type=float, default=30.0, help="of each attack")
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--only", choices=NAMES)
    chosen = options.parse_args()
    experiments: dict[
        str,
        Callable[[Path], Coroutine[Any, Any, Result]],
    ] = {
        "bodies": lambda folder: run_flood(folder, "bodies", 400, chosen.seconds),
        "heads": lambda folder: run_flood(folder, "heads", 600, chosen.seconds),
        "requests": lambda folder: run_flood(folder, "requests", 10, chosen.seconds),
        "unauthorised": lambda folder: run_flood(folder, "unauthorised", 10, chosen.seconds),
        "handshakes": lambda folder: run_flood(folder, "handshakes", 400, chosen.seconds),
        **{kind: partial(_run_newcomers, kind, chosen.strangers) for kind in SENT},
        "slow": lambda folder: run_slow(folder, chosen.clients),
        "renewal": lambda folder: run_renewal(folder, chosen.renewals),
        "guessing": lambda folder: run_password_guessing(folder, chosen.seconds, 100),
        "credentials": run_credentials,
        "changes": lambda folder: run_changes(folder, 63, chosen.seed),
        "pipelined": lambda folder: run_pipelined(folder, 10_000),
    }
    failed = False
    for name, experiment in experiments.items():
        if chosen.only in (None, name):
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="access-") as folder:
                seen = asyncio.run(experiment(Path(folder)))
            sys.stdout.write(f"{name} ({time.monotonic() - began:.0f} s): {seen.sentence}\n")
            for text in sorted(set(seen.wrong())):
                failed = True
                sys.stdout.write(f"  wrong: {text}\n")
            sys.stdout.flush()
    return 1 if failed else 0


async def _run_newcomers(kind: str, strangers: int, folder: Path) -> Newcomers:
    """Run 200 first calls. Strangers that begin handshakes are fewer: their number is that of the
    handshakes in 10 s that come before the one of a node.
    """
    count = strangers // 3 if kind == "hello tls" else strangers
    return await run_newcomers(folder, kind, count, 200, 0.02)


if __name__ == "__main__":
    sys.exit(main())
