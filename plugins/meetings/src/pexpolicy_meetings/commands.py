"""``pexpolicy meetings``: tokens of booking systems, and the meetings of a running server."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import click

from pexpolicy.cli.common import (
    config_option,
    examples,
    json_option,
    load_or_exit,
    print_json,
    refuse,
    warn,
)
from pexpolicy.cli.http_client import NotAnsweredError, admin_url, ask
from pexpolicy.config.outgoing import revealed
from pexpolicy.testing.report import Table, print_parts
from pexpolicy_meetings.settings import Scope, TokenTable

TIMEOUT_S = 10.0
COLUMNS = ("tenant", "id", "title", "start", "end", "state", "people", "alias")


@click.group(epilog=examples("pexpolicy meetings list"))
def meetings() -> None:
    """Show and change the meetings of booking systems."""


@meetings.command(epilog=examples("pexpolicy meetings token acme --name crm"))
@config_option
@click.argument("tenant")
@click.option("--name", required=True, help="Name of the token, which the audit has.")
def token(config: Path, tenant: str, name: str) -> None:
    """Make a token of TENANT for a booking system.

    It is printed this once: the configuration has its SHA-256 only.
    """
    made = secrets.token_urlsafe(32)
    digest = hashlib.sha256(made.encode()).hexdigest()
    table: dict[str, Any] = {"name": name, "sha256": digest, "scopes": [*get_args(Scope)]}
    try:
        TokenTable.model_validate(table)
    except ValueError:
        refuse(f"{name!r} is no name of a token: write letters, digits and ._- only, up to 64")
    plugin = load_or_exit(config, "").plugins.get("meetings") if config.exists() else None
    known = plugin.settings.get("tenants", {}).get(tenant) if plugin is not None else None
    place = f"[plugins.meetings.settings.tenants.{tenant}]"
    if known is None:
        warn(f"{config}: there is no {place}")
    row = f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in table.items())} }}"
    what, text = "Paste into", f"tokens = [{row}]"
    if known and known.get("tokens"):
        what, text = "Add to tokens in", f"{row},"
    click.echo(f"{made}\n\nThe token is shown this once. {what} {place}, and reload:\n\n{text}")


@meetings.command(
    "list", epilog=examples("pexpolicy meetings list", "pexpolicy meetings list acme --json")
)
@config_option
@json_option
@click.argument("tenant", default="")
def list_(config: Path, tenant: str, as_json: bool) -> None:  # noqa: FBT001 - an option
    """List meetings that are not over, of TENANT or of all."""
    found = _asked(config, f"/meetings?tenant={quote(tenant)}" if tenant else "/meetings")
    if as_json:
        print_json(found)
        return
    rows = [{**one, "alias": one["aliases"][0]} for one in found["items"]]
    print_parts([Table(COLUMNS, [[str(one.get(name, "")) for name in COLUMNS] for one in rows])])


@meetings.command(epilog=examples("pexpolicy meetings show acme crm-7"))
@config_option
@json_option
@click.argument("tenant")
@click.argument("meeting")
def show(config: Path, tenant: str, meeting: str, as_json: bool) -> None:  # noqa: FBT001
    """Show a MEETING of TENANT with its PINs, which the audit records."""
    _print(_asked(config, f"{_of(tenant, meeting)}?pins=true"), as_json=as_json)


@meetings.command(
    epilog=examples(
        "pexpolicy meetings add acme Review 2030-06-01T10:00+02:00 2030-06-01T11:00+02:00"
    )
)
@config_option
@json_option
@click.argument("tenant")
@click.argument("title")
@click.argument("start")
@click.argument("end")
def add(config: Path, tenant: str, title: str, start: str, end: str, *, as_json: bool) -> None:
    """Create a meeting of TENANT from START to END, with an alias and PINs that are made."""
    body = {"title": title, "start": start, "end": end}
    _print(_asked(config, f"{_of(tenant)}?pins=true", body), as_json=as_json)


@meetings.command(epilog=examples("pexpolicy meetings end acme crm-7"))
@config_option
@json_option
@click.argument("tenant")
@click.argument("meeting")
def end(config: Path, tenant: str, meeting: str, as_json: bool) -> None:  # noqa: FBT001
    """Close a MEETING of TENANT now: nobody is admitted any more."""
    _print(_asked(config, _of(tenant, meeting, "end"), {}), as_json=as_json)


def _of(tenant: str, *steps: str) -> str:
    return "/".join(["/tenants", *(quote(one, safe="") for one in (tenant, "meetings", *steps))])


def _asked(config: Path, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the running server answers."""
    settings = load_or_exit(config, "")
    url, token = f"{admin_url(settings)}/plugins/meetings{path}", revealed(settings.admin_token)
    content = None if body is None else json.dumps(body).encode()
    try:
        found: dict[str, Any] = json.loads(ask(url, TIMEOUT_S, token, own=True, body=content))
    except NotAnsweredError as error:
        refuse(_why(error) if error.body else f"{config}: {error}", 1)
    return found


def _why(error: NotAnsweredError) -> str:
    try:
        problem = json.loads(error.body)
    except ValueError:
        if error.status == HTTPStatus.NOT_FOUND:
            return "[plugins.meetings] is not active in the server"
        return str(error)
    errors = [f"{one['pointer'][1:]} {one['message']}" for one in problem.get("errors", ())]
    title = "there is no such meeting" if error.status == HTTPStatus.NOT_FOUND else problem["title"]
    return "; ".join(errors) or problem.get("detail") or title


def _print(meeting: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(meeting)
        return
    rows = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in meeting.items()
        if value not in ("", None, [], {})
    ]
    print_parts([Table(("field", "value"), rows)])
