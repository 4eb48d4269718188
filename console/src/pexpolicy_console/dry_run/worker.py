"""The process of the dry runs: answers questions from standard input, one after the other."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from pexpolicy import Alias
from pexpolicy.cli.explain import as_document, doubts, parse_at, requested
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.explain.explanation import Explanation, explain
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest
from pexpolicy.models.context import at_time
from pexpolicy.policy import Policy
from pexpolicy_console.dry_run.messages import (
    CheckFile,
    Explain,
    Failed,
    FileCheck,
    Found,
    ListRooms,
    ListRules,
    LookUp,
    Question,
    Walk,
)
from pexpolicy_console.dry_run.places import places_of_alias
from pexpolicy_console.dry_run.policy_on_disk import PolicyOnDisk

LOOKED_UP = tuple(name for name in ENDPOINTS if name != "media_location")
"""What is asked about an alias; a location depends on the network of the caller."""


class Worker:
    """Answers questions about one configuration file."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._disk = PolicyOnDisk(config)

    async def answer(self, question: Question) -> Any:
        """Return the answer, or ``Failed``."""
        try:
            return await self._answer(question)
        except InvalidRequestError as error:
            return Failed(str(error).splitlines())
        except click.UsageError as error:
            return Failed([error.message])
        except ConfigError as error:
            return Failed([str(problem) for problem in error.problems])
        except Exception as error:  # noqa: BLE001 - the operator must see it
            return Failed([describe_error(error).summary])

    async def _answer(self, question: Question) -> Any:
        match question:
            case Explain():
                return await self._explain(question)
            case LookUp():
                return await self._look_up(question)
            case ListRooms():
                # Opened, as rooms of a source are known then only.
                await self._disk.serving()
                return (await self._disk.listing()).rooms(question)
            case ListRules():
                listing = await self._disk.listing()
                return listing.rules(hides_personal=question.hides_personal)
            case CheckFile():
                return await self._check(question)

    async def _explain(self, question: Explain) -> Walk:
        # Before the configuration is built, which takes longer than finding a mistake.
        request = self._requested(question)
        remarks = doubts(request, question.changes)
        at = parse_at(question.at or None, request.at)
        policy = await self._disk.serving()
        return await self._walk(policy, request, at, remarks, ask_all=question.ask_all)

    def _requested(self, question: Explain) -> RecordedRequest:
        """Return the request of a question; the command ends where it cannot find a call."""
        with redirect_stderr(StringIO()) as refused:
            try:
                return requested(
                    question.request,
                    self._config,
                    question.endpoint,
                    question.changes,
                    question.shape or None,
                )
            except SystemExit:
                raise InvalidRequestError(click.unstyle(refused.getvalue()).strip()) from None

    async def _look_up(self, question: LookUp) -> Found:
        alias = Alias(question.alias.strip())
        if not alias.user:
            raise InvalidRequestError(f"{question.alias!r} is not an alias")
        at = parse_at(question.at or None, None)
        policy = await self._disk.serving()
        walks = []
        for endpoint in LOOKED_UP:
            request = requested(alias.raw, self._config, endpoint, {})
            walks.append(await self._walk(policy, request, at, [], ask_all=False))
        return Found(str(alias), walks, places_of_alias(policy.files, alias))

    async def _walk(
        self,
        policy: Policy,
        request: RecordedRequest,
        at: datetime | None,
        remarks: list[str],
        *,
        ask_all: bool,
    ) -> Walk:
        with at_time(self._disk.clock, at):
            explained = await explain(policy, request, all=ask_all, moment=at)
        shown = as_document(request, at, remarks, self._config, explained, show_secrets=False)
        return msgspec.convert({**shown, "place": await self._place(explained)}, Walk)

    async def _place(self, explained: Explanation) -> str:
        outcome = explained.answer.outcome
        listing = await self._disk.listing()
        rule = listing.place_of_rule(outcome.decided_by, outcome.decision.reason)
        return rule or listing.place_of_decision(outcome.decision)

    async def _check(self, question: CheckFile) -> FileCheck:
        try:
            policy = await self._disk.policy()
        except ConfigError as error:
            return FileCheck("", [str(problem) for problem in error.problems])
        warnings = [str(warning) for warning in policy.warnings]
        changes = await self._disk.changes(question.active_hash)
        return FileCheck(policy.config_hash, [], warnings, changes)

    async def close(self) -> None:
        """Close the policy."""
        await self._disk.close()


async def serve(config: Path, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer questions until the input ends; each is a line, as is each answer."""
    worker = Worker(config)
    loop = asyncio.get_running_loop()
    decode = msgspec.json.Decoder(Question).decode
    try:
        while line := await loop.run_in_executor(None, questions.readline):
            answer = await worker.answer(decode(line))
            answers.write(msgspec.json.encode(_tagged(answer)) + b"\n")
            answers.flush()
    finally:
        await worker.close()


def _tagged(answer: Any) -> Mapping[str, Any]:
    return {"failed": answer.failures} if isinstance(answer, Failed) else {"answer": answer}


def main() -> None:
    """Serve standard input. What plugins print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING)
    questions = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    asyncio.run(serve(Path(sys.argv[1]), questions, answers))


if __name__ == "__main__":
    main()
