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
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import click
import msgspec

from pexpolicy import Alias
from pexpolicy.audit.reader import raw_lines
from pexpolicy.cli.for_console import (
    Activation,
    BuildContext,
    DryRunClock,
    Job,
    Policy,
    Tally,
    Verification,
    as_document,
    at_time,
    doubts,
    faults_in_database,
    grouped,
    last_good,
    parse_at,
    paths_of,
    replay_as_json,
    requested,
    run_replay,
    starting_policy,
)
from pexpolicy.config.files import reading, stat_files
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.explain.explanation import Explanation, explain
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest
from pexpolicy.isolation.child import Channel, ChildError, parent_socket
from pexpolicy.plugins.changes import configuration_changes
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.differences import difference
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


class PolicyOnDisk:
    """The policy of a configuration file, or of its last good files where it has errors: built when
    its files change, opened when asked.

    It changes nothing: jobs do not run, and cache files are not written.
    """

    def __init__(self, path: Path) -> None:
        self.clock = DryRunClock()
        """The clock of the policy."""
        self._path = path
        self._built: tuple[Policy, Listing] | ConfigError | None = None
        self._files: Any = {}
        self._stack: AsyncExitStack | None = None
        self._active: Policy | None = None

    async def built(self) -> tuple[Policy, Listing]:
        """Return the policy, not opened, with its rooms and rules; raise ``ConfigError``."""
        if self._built is None or stat_files(self._files) != self._files:
            await self.close()
            self._built = self._build()
        if isinstance(self._built, ConfigError):
            raise self._built
        return self._built

    @property
    def fallback(self) -> str:
        """Of when the files of the policy are, if it is not that of the present ones."""
        fallback = self._built[0].fallback if isinstance(self._built, tuple) else None
        return "" if fallback is None else f"{fallback.kept.moment} ({fallback.kept.policy_hash})"

    async def opened(self) -> tuple[Policy, Listing]:
        """Return the same, opened; raise ``ConfigError``."""
        policy, listing = await self.built()
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

    async def changes(self, active_hash: str) -> list[str] | None:
        """Return what differs from the configuration with this hash; ``None`` if it was never
        seen; raise ``ConfigError``.
        """
        policy, _ = await self.built()
        if policy.policy_hash == active_hash:
            self._active = policy
        if self._active is None or self._active.policy_hash != active_hash:
            return None
        return configuration_changes(policy, self._active)

    def _build(self) -> tuple[Policy, Listing] | ConfigError:
        context = BuildContext(wall_clock=self.clock, keeps_static_decisions=True)
        try:
            policy = starting_policy(self._path, context=context)
        except ConfigError as error:
            self._files = stat_files(error.files or (self._path,))
            return error
        self._files = stat_files(policy.files)
        return policy, Listing(policy, self._path.read_text("utf-8", "replace"))

    async def close(self) -> None:
        """Close the policy."""
        built, stack = self._built, self._stack
        self._built = self._stack = None
        if stack is not None:
            await stack.aclose()
        elif isinstance(built, tuple) and built[0] is not self._active:
            built[0].close()


class DryRunWorker:
    """Answers questions about one configuration file."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._disk = PolicyOnDisk(config)

    async def answer(self, question: str, **arguments: Any) -> dict[str, Any]:
        """Return the ``answer``, or the ``failures`` with a line for each reason."""
        questions: dict[str, Callable[..., Awaitable[Any]]] = {
            "explain": self._explain,
            "look_up": self._look_up,
            "rooms": self._rooms,
            "rules": self._rules,
            "check": self._check,
            "difference": self._difference,
        }
        try:
            answer = await questions[question](**arguments)
        except Exception as error:  # noqa: BLE001 - the operator must see it
            return {"failures": _failures_of(error)}
        return {"answer": answer, "fallback": self._disk.fallback}

    async def _explain(
        self,
        request: str,
        endpoint: str | None = None,
        shape: str | None = None,
        changes: dict[str, list[str]] | None = None,
        at: str | None = None,
    ) -> dict[str, Any]:
        """Answer one request, as ``pexpolicy explain`` does."""
        # Before the configuration is built, which takes longer than finding a mistake.
        found = _command(requested, request, self._config, endpoint, changes or {}, shape or None)
        remarks = doubts(found, changes or {})
        return await self._walk(found, parse_at(at or None, found.at), remarks)

    async def _look_up(self, alias: str, caller: str = "", at: str | None = None) -> dict[str, Any]:
        """Ask each endpoint about one alias, for a caller where it asks about one."""
        known = Alias(alias.strip())
        if not known.user:
            raise InvalidRequestError(f"{alias!r} is not an alias")
        moment = parse_at(at or None, None)
        changes = {name: {} if not caller else {"remote_alias": [caller]} for name in CALLERS}
        requests = [
            requested(known.raw, self._config, name, changes.get(name, {})) for name in LOOKED_UP
        ]
        walks = [await self._walk(request, moment) for request in requests]
        return {"alias": str(known), "walks": walks}

    async def _walk(
        self, request: RecordedRequest, at: datetime | None, remarks: Sequence[str] = ()
    ) -> dict[str, Any]:
        policy, listing = await self._disk.opened()
        with at_time(self._disk.clock, at):
            explained: Explanation = await explain(policy, request, moment=at)
        shown = as_document(explained, at, [*remarks], self._config, show_secrets=False)
        place = listing.place_of(explained.answer.outcome)
        return {**shown, "policy_hash": explained.policy_hash, "place": place}

    async def _rooms(self, **wanted: Any) -> dict[str, Any]:
        # Opened, as rooms of a source are known then only.
        _, listing = await self._disk.opened()
        return listing.rooms(**wanted)

    async def _rules(self, *, hides_personal: bool = False) -> list[dict[str, Any]]:
        _, listing = await self._disk.built()
        return listing.rules(hides_personal=hides_personal)

    async def _check(self, active_hash: str = "") -> dict[str, Any]:
        """Check the configuration on the disk. ``active_hash`` is that of the server."""
        try:
            policy, _ = await self._disk.built()
            if policy.fallback is not None:
                raise policy.fallback.error
        except ConfigError as error:
            return {"policy_hash": "", "problems": _failures_of(error), "warnings": []}
        return {
            "policy_hash": policy.policy_hash,
            "problems": [],
            "warnings": [*map(str, grouped(policy.warnings, self._config))],
            "changes": await self._disk.changes(active_hash),
        }

    async def _difference(
        self, folder: str, before: dict[str, Any], after: dict[str, Any]
    ) -> dict[str, Any]:
        """Compare two configurations that were kept."""
        sides = (msgspec.convert(one, Activation) for one in (before, after))
        return difference(Path(folder), *sides)

    async def close(self) -> None:
        """Close the policy."""
        await self._disk.close()


def _failures_of(error: Exception) -> list[str]:
    match error:
        case InvalidRequestError():
            return str(error).splitlines()
        case click.UsageError():
            return [error.message]
        case ConfigError():
            return [*map(str, grouped(error.problems, error.path))]
        case _:
            return [describe_error(error).summary]


def _command(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a command, which ends the process for a mistake."""
    with redirect_stderr(StringIO()) as refused:
        try:
            return function(*arguments)
        except SystemExit:
            raise InvalidRequestError(click.unstyle(refused.getvalue()).strip()) from None


Tell = Callable[[dict[str, Any]], None]
"""Is told how far a job is."""


def replay(
    config: Path, tell: Tell, since: float, file: str = "", kept: str = "", folder: str = ""
) -> dict[str, Any]:
    """Replay the audit of a configuration on a file of its folder, or on the files that are
    ``kept`` in the ``folder`` by their policy hash.
    """
    audit = ConfigFile(config).audit
    if audit is None:
        raise InvalidRequestError("the audit goes to standard output: there is no file of calls")

    def on_progress(counts: Tally, share: float) -> None:
        records = sum(counts.records.values())
        tell({"progress": {"records": records, "share": share, "changed": counts.changed}})

    found = last_good(Path(folder), config, kept) if kept else None
    if kept and found is None:
        raise InvalidRequestError(f"{kept} is not kept any more")
    job = Job(config.with_name(file or config.name), since=datetime.fromtimestamp(since, UTC))
    with reading(None if found is None else found[1]):
        done = run_replay([audit], job, on_progress)
    result = replay_as_json(done)
    groups = result["groups"]
    left_out = max(len(groups) - MAX_GROUPS, 0)
    return {**result, "groups": groups[:MAX_GROUPS], "left_out": left_out}


def verify(config: Path, _: Tell) -> dict[str, Any]:
    """Verify the chain of all audit files, or of the database where there is one."""
    verification, found, faults = Verification(None, set()), list[str](), 0
    if ConfigFile(config).settings.audit.ship is not None:
        results = _command(list, faults_in_database(config, verification))
    else:
        results = verification.verify(raw_lines(_command(paths_of, config, ())))
    for fault in results:
        faults += 1
        if faults <= MAX_FAULTS:
            found.append(f"{fault.place}: {fault.text}")
    return {**verification.as_json(faults), "found": found}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"replay": replay, "verification": verify}


async def _serve_dry_runs(config: Path, channel: Channel[dict[str, Any]]) -> None:
    worker = DryRunWorker(config)
    receive = partial(asyncio.get_running_loop().run_in_executor, None, channel.receive)
    with suppress(EOFError):
        while True:
            signal.alarm(IDLE_S)
            question = await receive()
            signal.alarm(0)
            _send(channel, await worker.answer(**question))
    await worker.close()


def _run_job(config: Path, channel: Channel[dict[str, Any]]) -> None:
    question = channel.receive()
    job = JOBS[question.pop("job")]
    try:
        answer: dict[str, Any] = {"answer": job(config, channel.send, **question)}
    except Exception as error:  # noqa: BLE001 - the operator must see it
        answer = {"failures": _failures_of(error)}
    _send(channel, answer)


def _send(channel: Channel[dict[str, Any]], answer: dict[str, Any]) -> None:
    try:
        channel.send(answer)
    except ChildError:
        channel.send({"failures": ["the answer is too long to show"]})


def main() -> None:
    """Answer the console: dry runs of a configuration, or one job."""
    channel = Channel("the console", parent_socket(), msgspec.json.decode, msgspec.json.encode)
    logging.basicConfig(level=logging.WARNING)
    config = Path(sys.argv[1])
    if "--job" in sys.argv:
        _run_job(config, channel)
    else:
        asyncio.run(_serve_dry_runs(config, channel))


if __name__ == "__main__":
    main()
