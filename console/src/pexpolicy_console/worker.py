"""The child processes of the console: dry runs, replays, and the verification of the audit.

A process answers one question after the other, with what the command of the same name prints as
JSON.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, redirect_stderr, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import msgspec

from pexpolicy import Alias
from pexpolicy.audit.reader import raw_lines
from pexpolicy.cli import for_console as core
from pexpolicy.config.files import reading, stat_files
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.explain.explanation import Explanation, explain
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest
from pexpolicy.isolation.child import MAX_FRAME, parent_socket
from pexpolicy_console.children import Json
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.listing import Listing

LOOKED_UP = tuple(name for name in ENDPOINTS if name != "media_location")
"""What is asked about an alias; a location depends on the network of the caller."""
CALLERS = ("service_configuration", "participant_properties")
"""What depends on who calls."""
IDLE_S = 300
"""Seconds without a question after which the process of the dry runs is ended, by SIGALRM."""
MAX_GROUPS = 50
MAX_FAULTS = 50
"""Groups of a replay and faults of a verification that are kept; all are counted."""


Tell = Callable[[Json], None]
"""Is told how far a job is."""


class DryRunWorker:
    """Answers questions about one configuration file, or about its last good files where it has
    errors, and ``tell`` how far an answer is.

    A policy is built when its files change, and opened when asked. It changes nothing: jobs do not
    run, and cache files are not written.
    """

    def __init__(self, config: Path, tell: Tell = lambda _: None) -> None:
        self._config = config
        self._tell = tell
        self._clock = core.DryRunClock()
        self._built: tuple[core.Policy, Listing] | ConfigError | None = None
        self._files: Any = {}
        self._stack: AsyncExitStack | None = None

    async def answer(self, question: str, **arguments: Any) -> Json:
        """Return the ``answer``, or the ``failures`` with a line for each reason; ``fallback`` says
        of when the files of the policy are, if they are not the present ones.
        """
        questions: dict[str, Callable[..., Awaitable[Any]]] = {
            "explain": self._explain,
            "look_up": self._look_up,
            "rooms": self._rooms,
            "rules": self._rules,
            "check": self._check,
            "replay": lambda **job: asyncio.to_thread(replay, self._config, self._tell, **job),
            "verification": partial(asyncio.to_thread, verify, self._config),
        }
        try:
            answer = await questions[question](**arguments)
        except Exception as error:  # noqa: BLE001 - the operator must see it
            return {"failures": _failures_of(error)}
        fallback = self._built[0].fallback if isinstance(self._built, tuple) else None
        old = "" if fallback is None else f"{fallback.kept.moment} ({fallback.kept.policy_hash})"
        return {"answer": answer, "fallback": old}

    async def _policy(self) -> tuple[core.Policy, Listing]:
        """Return the policy, not opened, with its rooms and rules; raise ``ConfigError``."""
        if self._built is None or stat_files(self._files) != self._files:
            await self.close()
            context = core.BuildContext(wall_clock=self._clock, keeps_static_decisions=True)
            try:
                policy = core.starting_policy(self._config, context=context)
                self._files = stat_files(policy.files)
                content = self._config.read_text("utf-8", "replace")
                self._built = policy, Listing(policy, content)
            except ConfigError as error:
                self._files = stat_files(error.files or (self._config,))
                self._built = error
        if isinstance(self._built, ConfigError):
            raise self._built
        return self._built

    async def _opened(self) -> tuple[core.Policy, Listing]:
        """Return the same, opened; raise ``ConfigError``."""
        policy, listing = await self._policy()
        if self._stack is None:
            stack = AsyncExitStack()
            try:
                await stack.enter_async_context(policy.serving())
            except ConfigError:
                # A policy is opened once.
                self._built = None
                raise
            self._stack = stack
        return policy, listing

    async def _explain(
        self,
        request: str,
        endpoint: str | None = None,
        shape: str | None = None,
        changes: dict[str, list[str]] | None = None,
        at: str | None = None,
    ) -> Json:
        """Answer one request, as ``pexpolicy explain`` does."""
        # Before the configuration is built, which takes longer than finding a mistake.
        found = _command(
            core.requested, request, self._config, endpoint, changes or {}, shape or None
        )
        remarks = core.doubts(found, changes or {})
        return await self._walk(found, core.parse_at(at or None, found.at), remarks)

    async def _look_up(self, alias: str, caller: str = "", at: str | None = None) -> Json:
        """Ask each endpoint about one alias, for a caller where it asks about one."""
        known = Alias(alias.strip())
        if not known.user:
            raise InvalidRequestError(f"{alias!r} is not an alias")
        moment, walks = core.parse_at(at or None, None), []
        for name in LOOKED_UP:
            changes = {"remote_alias": [caller]} if caller and name in CALLERS else {}
            walks.append(
                await self._walk(core.requested(known.raw, self._config, name, changes), moment)
            )
        return {"alias": str(known), "walks": walks}

    async def _walk(
        self, request: RecordedRequest, at: datetime | None, remarks: Sequence[str] = ()
    ) -> Json:
        policy, listing = await self._opened()
        with core.at_time(self._clock, at):
            explained: Explanation = await explain(policy, request, moment=at)
        shown = core.as_document(explained, at, [*remarks], self._config, show_secrets=False)
        place = listing.place_of(explained.answer.outcome)
        return {**shown, "policy_hash": explained.policy_hash, "place": place}

    async def _rooms(self, **wanted: Any) -> Json:
        # Opened, as rooms of a source are known then only.
        _, listing = await self._opened()
        return listing.rooms(**wanted)

    async def _rules(self, *, hides_personal: bool = False) -> list[Json]:
        _, listing = await self._policy()
        return listing.rules(hides_personal=hides_personal)

    async def _check(self) -> Json:
        """Check the files on the disk."""
        try:
            policy, _ = await self._policy()
            if policy.fallback is not None:
                raise policy.fallback.error
        except ConfigError as error:
            return {"policy_hash": "", "problems": _failures_of(error), "warnings": []}
        warnings = [*map(str, core.grouped(policy.warnings, self._config))]
        return {**asdict(policy.inputs), "problems": [], "warnings": warnings}

    async def close(self) -> None:
        """Close the policy."""
        built, stack = self._built, self._stack
        self._built = self._stack = None
        if stack is not None:
            await stack.aclose()
        elif isinstance(built, tuple):
            built[0].close()


def _failures_of(error: Exception) -> list[str]:
    match error:
        case InvalidRequestError():
            return str(error).splitlines()
        case click.UsageError():
            return [error.message]
        case ConfigError():
            return [*map(str, core.grouped(error.problems, error.path))]
        case _:
            return [describe_error(error).summary]


def _command(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a command, which ends the process for a mistake."""
    with redirect_stderr(StringIO()) as refused:
        try:
            return function(*arguments)
        except SystemExit:
            raise InvalidRequestError(click.unstyle(refused.getvalue()).strip()) from None


def replay(
    config: Path, tell: Tell, since: float, file: str = "", kept: str = "", folder: str = ""
) -> Json:
    """Replay the audit of a configuration on a file of its folder, or on the files that are
    ``kept`` in the ``folder`` by their policy hash.
    """
    audit = ConfigFile(config).audit
    if audit is None:
        raise InvalidRequestError("the audit goes to standard output: there is no file of calls")

    def on_progress(counts: core.Tally, share: float) -> None:
        records = sum(counts.records.values())
        tell({"progress": {"records": records, "share": share, "changed": counts.changed}})

    found = core.last_good(Path(folder), config, kept) if kept else None
    if kept and found is None:
        raise InvalidRequestError(f"{kept} is not kept any more")
    job = core.Job(config.with_name(file or config.name), since=datetime.fromtimestamp(since, UTC))
    with reading(None if found is None else found[1]):
        done = core.run_replay([audit], job, on_progress)
    result = core.replay_as_json(done)
    groups = result["groups"]
    left_out = max(len(groups) - MAX_GROUPS, 0)
    return {**result, "groups": groups[:MAX_GROUPS], "left_out": left_out}


def verify(config: Path) -> Json:
    """Verify the chain of all audit files, or of the database where there is one."""
    verification, found, faults = core.Verification(None, set()), list[str](), 0
    if ConfigFile(config).settings.audit.ship is not None:
        results = _command(list, core.faults_in_database(config, verification))
    else:
        results = verification.verify(raw_lines(_command(core.paths_of, config, ())))
    for fault in results:
        faults += 1
        if faults <= MAX_FAULTS:
            found.append(f"{fault.place}: {fault.text}")
    return {**verification.as_json(faults), "found": found}


async def _serve(config: Path, console: Connection) -> None:
    def send(message: Json) -> None:
        content = msgspec.json.encode(message)
        if len(content) > MAX_FRAME:
            content = msgspec.json.encode({"failures": ["the answer is too long to show"]})
        console.send_bytes(content)

    worker = DryRunWorker(config, send)
    receive = partial(asyncio.get_running_loop().run_in_executor, None, console.recv_bytes)
    with suppress(EOFError, ConnectionError):
        while True:
            signal.alarm(IDLE_S)
            question = msgspec.json.decode(await receive())
            signal.alarm(0)
            send(await worker.answer(**question))
    await worker.close()


def main() -> None:
    """Answer the console."""
    console = Connection(parent_socket().detach())
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(Path(sys.argv[1]), console))


if __name__ == "__main__":
    main()
