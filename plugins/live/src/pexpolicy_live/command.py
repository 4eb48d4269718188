"""``pexpolicy live``: who is in the conferences."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import click
import msgspec

from pexpolicy import SharedUnavailableError
from pexpolicy.background.shared import shared_state
from pexpolicy.cli.common import (
    build,
    config_option,
    examples,
    json_option,
    load_or_exit,
    print_json,
    refuse,
    warn,
)
from pexpolicy.cli.http_client import NotAnsweredError, admin_url, ask
from pexpolicy.cli.status import running_status
from pexpolicy.config.outgoing import revealed
from pexpolicy.testing.report import Line, Table, print_parts
from pexpolicy_live.plugin import Live

TIMEOUT_S = 5.0
Document = dict[str, Any]


@click.command(epilog=examples("pexpolicy live", "pexpolicy live --json"))
@config_option
@json_option
def live(config: Path, as_json: bool) -> None:  # noqa: FBT001 - an option
    """Show how many people are in which service, by Infinity's events.

    It asks the running server, and without one reads what servers have stored. Exit code 1 if
    neither can be read.
    """
    settings = load_or_exit(config, "")
    try:
        if running_status(config, settings) is not None:
            url, token = admin_url(settings), revealed(settings.admin_token)
            counts, stale = (_asked(f"{url}/plugins/live/{path}", token) for path in ("", "stale"))
        else:
            counts, stale = asyncio.run(_stored(config))
    except NotAnsweredError as error:
        text = "[plugins.live] is not active in the server" if error.status == 404 else str(error)  # noqa: PLR2004 - HTTP
        refuse(f"{config}: {text}", 1)
    except SharedUnavailableError as error:
        refuse(f"{config}: {error}", 1)
    if as_json:
        print_json(counts)
        return
    for kind in ("services", "tenants"):
        if rows := [(name, *map(str, found.values())) for name, found in counts[kind].items()]:
            print_parts([Table((kind[:-1], "participants", "hosts", "waiting"), rows), Line("")])
    click.echo(f"as of {counts['as_of']}")
    for one in stale["stale"]:
        where = " ".join(filter(None, (one["source"], one["node"])))
        warn(f"{where}: {one['why']}, since {one['since']}", "stale")


def _asked(url: str, token: str) -> Document:
    found: Document = json.loads(ask(url, TIMEOUT_S, token, own=True))
    return found


async def _stored(config: Path) -> tuple[Document, Document]:
    policy = build(config)
    found = [one for one in policy.plugins if isinstance(one.instance, Live)]
    if not found:
        refuse(f"{config}: there is no [plugins.live]", 1)
    state = shared_state(policy.settings, is_dry=True)
    try:
        for item in found[0].shared:
            item.bind(found[0].name, state)
        plugin = cast("Live", found[0].instance)
        await plugin.read()
        document: Document = msgspec.to_builtins(plugin.document())
        return document, {"stale": plugin.stale_because()}
    finally:
        await state.close()
        policy.close()
