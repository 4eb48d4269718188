"""``pexpolicy config``."""

from __future__ import annotations

import json

import click

from pexpolicy.cli.examples import examples
from pexpolicy.plugins.config_schema import config_schema
from pexpolicy.plugins.discovery import installed


@click.group(epilog=examples("pexpolicy config schema > config.schema.json"))
def config() -> None:
    """Describe the configuration file."""


@config.command(epilog=examples("pexpolicy config schema > config.schema.json"))
def schema() -> None:
    """Print JSON Schema of config.toml with the settings of the installed plugins.

    An editor uses it for completion and errors: save it as config.schema.json, and begin
    config.toml with #:schema ./config.schema.json
    """
    click.echo(json.dumps(config_schema(installed()), indent=1, ensure_ascii=False))
