"""``pexpolicy local-policy``: the group of commands."""

from __future__ import annotations

import click

from pexpolicy_local_policy.case_command import test
from pexpolicy_local_policy.export_command import export
from pexpolicy_local_policy.lint_command import import_, lint
from pexpolicy_local_policy.run_command import run


@click.group(
    "local-policy",
    no_args_is_help=True,
    epilog="\b\nExamples:\n"
    "  pexpolicy local-policy run service.jinja2 --input variables.json\n"
    "  pexpolicy local-policy lint service.jinja2",
)
def local_policy() -> None:
    """Run, check and convert local policy scripts of Pexip Infinity."""


local_policy.add_command(run)
local_policy.add_command(lint)
local_policy.add_command(test)
local_policy.add_command(import_)
local_policy.add_command(export)
