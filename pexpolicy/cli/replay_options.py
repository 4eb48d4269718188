"""Options of ``pexpolicy replay``: credentials, and the explanation of a group."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from pexpolicy.cli.common import capture_log
from pexpolicy.cli.explain import walk
from pexpolicy.cli.explain_display import Display
from pexpolicy.explain.explanation import load_local_policy
from pexpolicy.explain.request_forms import AUDIT_LINE, RecordedRequest, read_request
from pexpolicy.replay.job import Job
from pexpolicy.replay.report_text import TextReport
from pexpolicy.replay.result import ReplayResult


def show_walks(result: ReplayResult, number: int, job: Job) -> None:
    """Print a group, and each step of the decisions on its example; raise ``UsageError``."""
    if number > len(result.groups):
        text = f"there are {len(result.groups)} groups of changes, and no group {number}"
        raise click.UsageError(text)
    group = result.groups[number - 1]
    TextReport().show_group(number, group, result)
    click.echo()
    at = None if group.example.at is None else datetime.fromtimestamp(group.example.at, UTC)
    url = read_request(group.example.url).url
    example = group.example
    request = RecordedRequest(url, AUDIT_LINE, at, example.peer, example.missing)
    remarks = []
    if request.missing:
        remarks = [f"the record was written without {', '.join(request.missing)}"]
    log, handler = capture_log()
    configs = [path for path in (job.against, job.config) if isinstance(path, Path)]
    local_policy = None
    if job.scripts:
        local_policy = load_local_policy(job.scripts, None, job.service_config)
    walks = [
        walk(path, request, at, local_policy=local_policy, ask_all=False, log=log, handler=handler)
        for path in configs
    ]
    Display(show_secrets=False).show(request, at, remarks, walks)
