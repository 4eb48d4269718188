"""Plugin that decides by local policy scripts, or adjusts the decisions of others by them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from jinja2 import TemplateSyntaxError
from pydantic import Field, model_validator
from typing_extensions import override

from pexpolicy import (
    ConfigPath,
    ConfigWarning,
    Continue,
    Decision,
    Plugin,
    PluginSettings,
    Problem,
    Reject,
    Request,
    SettingsError,
    hookimpl,
    wall_clock,
)
from pexpolicy.config.files import why_unusable
from pexpolicy.files import read_file
from pexpolicy_local_policy.language import parse, unknown_filters
from pexpolicy_local_policy.node_policy import final_decision, input_after, input_before
from pexpolicy_local_policy.script_process import Job, ScriptPool
from pexpolicy_local_policy.variables import ScriptInput
from pexpolicy_local_policy.verdict import judge, masked

MARGIN = 0.2
"""Seconds of the plugin's timeout that remain to end a script that is late."""


class LocalPolicySettings(PluginSettings):
    """``[plugins.local-policy.settings]``."""

    service_configuration: ConfigPath | None = None
    """Script for services."""
    participant_properties: ConfigPath | None = None
    """Script for participants."""
    media_location: ConfigPath | None = None
    """Script for media locations."""
    adjust: bool = False
    """``true`` runs the scripts on the decisions of other plugins, as a node does after external
    policy; ``false`` lets them decide.
    """
    processes: int = Field(1, ge=1, le=16)
    """Processes that run the scripts."""

    @model_validator(mode="after")
    def _has_a_script(self) -> Self:
        if not any(True for _ in self.scripts()):
            raise ValueError("names no script: write service_configuration = 'FILE', for example")
        return self

    @property
    def seconds(self) -> float:
        """Return the limit of one run of a script, within the timeout of the plugin."""
        return max(self.plugin_timeout - MARGIN, self.plugin_timeout / 2)

    def scripts(self) -> Iterator[tuple[str, Path]]:
        """Yield endpoint and file of each script."""
        for name in ("service_configuration", "participant_properties", "media_location"):
            path: Path | None = getattr(self, name)
            if path is not None:
                yield name, path


class ScriptFailedError(RuntimeError):
    """A script gave nothing that Infinity would apply."""


class LocalPolicy(Plugin[LocalPolicySettings]):
    """Runs a script for each request that has one, in processes of its own."""

    def __init__(
        self, settings: LocalPolicySettings, clock: Callable[[], float] | None = None
    ) -> None:
        self._clock = clock or wall_clock()
        self._extras = settings.extras
        self._adjusts = settings.adjust
        self._files = dict(settings.scripts())
        self._sources: dict[str, str] = {}
        problems = []
        for endpoint, path in self._files.items():
            source, text = _read(path)
            self._sources[endpoint] = source
            if text:
                problems.append(Problem((endpoint,), text))
        if problems:
            raise SettingsError(problems=problems)
        self._pool = ScriptPool(settings.processes, settings.seconds)
        for endpoint in self._sources:
            # Only these hooks exist, so that other endpoints cost a call no step.
            name = f"adjust_{endpoint}" if settings.adjust else endpoint
            setattr(self, name, self._hook(name, endpoint))

    def _hook(self, name: str, endpoint: str) -> Callable[..., Awaitable[Decision | None]]:
        async def decide(request: Request) -> Decision | None:
            return await self._run(endpoint, request, *input_before(endpoint, request))

        async def adjust(request: Request, decision: Any) -> Decision | None:
            made = await self._run(endpoint, request, *input_after(endpoint, request, decision))
            if made is None:
                return None
            # The fields that a script for participants or locations does not name stay.
            final = final_decision(endpoint, decision, made, self._extras)
            return None if final is None else final.with_reason(made.reason or "")

        hook: Callable[..., Awaitable[Decision | None]] = adjust if self._adjusts else decide
        return hookimpl(specname=name)(hook)

    @property
    def can_reject(self) -> bool:
        """Return whether a script may reject."""
        return any("reject" in source for source in self._sources.values())

    @override
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Start the processes."""
        async with self._pool.running():
            yield

    async def _run(
        self, endpoint: str, request: Request, found: ScriptInput, unknown: tuple[str, ...]
    ) -> Decision | None:
        """Return the decision of a script, or ``None`` where it leaves the call to others."""
        name = self._files[endpoint].name
        job = Job(self._sources[endpoint], found.variables, self._clock(), unknown)
        rendering = await self._pool.run(job)
        verdict = judge(found, rendering, self._extras)
        failure = rendering.failure
        abstains = failure is not None and failure.kind in ("unknown", "not applied")
        if request.notes is not None:
            end = f"{failure}, so the next plugin is asked" if abstains else verdict.summary
            lines = (f"pex_debug_log: {line}" for line in rendering.debug)
            notes = (*lines, *verdict.warnings, end)
            request.notes.extend(f"{name}: {masked(note, request, found)}" for note in notes)
        if abstains:
            return None
        reason = f"script {name}"
        if verdict.dropped:
            dropped = masked(verdict.dropped, request, found)
            if verdict.action != "reject":
                raise ScriptFailedError(f"{name}: {dropped}")
            # A text that Infinity does not take, such as a long name, must admit no caller.
            return Reject(reason=reason).with_warnings(dropped)
        if verdict.decision is not None:
            return verdict.decision.with_reason(reason)
        return None if self._adjusts else Continue(reason=reason)

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of debug calls that are left in."""
        for endpoint, source in self._sources.items():
            if "pex_debug_log" in source:
                text = "the script calls pex_debug_log, which belongs to tests only"
                yield ConfigWarning((endpoint,), text)

    @override
    def tracked_files(self) -> Iterable[Path]:
        """Return the scripts."""
        return self._files.values()

    @override
    def status(self) -> Mapping[str, object]:
        """Return how often scripts ran and failed, and how many processes had to be replaced."""
        pool = self._pool
        return {"runs": pool.runs, "failures": pool.failures, "restarts": pool.restarts}


def _read(path: Path) -> tuple[str, str]:
    """Return the text of a script, and why it cannot be used."""
    try:
        source = read_file(path).decode()
    except OSError as error:
        return "", f"{path} cannot be read: {why_unusable(path, error)}"
    except UnicodeDecodeError as error:
        return "", f"{path} is not UTF-8 text (byte {error.start})"
    try:
        found = unknown_filters(parse(source))
    except TemplateSyntaxError as error:
        found = [(error.lineno, error.message or "")]
    except RecursionError:
        return source, f"{path}: is nested too deeply"
    return source, "; ".join(f"{path}, line {line}: {text}" for line, text in found)
