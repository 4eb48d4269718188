"""The page on background work: each section's plugin does what the text says."""

import asyncio
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pexpolicy.config.settings import PluginStartupError
from pexpolicy.testing import Outcome, decide, make_policy, make_request
from tests.support import samples
from tests.support.waiting import HANG_S, until

PAGE = "background.md"


def steps(outcome: Outcome) -> list[str]:
    return [step.outcome for step in outcome.steps]


@samples.covers(PAGE, "Data that is refreshed")
async def test_data_is_refreshed_and_kept_while_the_service_is_down(tmp_path: Path) -> None:
    answers = ["broken", '["bob@example.com"]', '["sip:Alice@example.com"]']
    asked_for = asyncio.Event()

    async def vips(request: web.Request) -> web.Response:
        text = answers.pop() if answers else "broken"
        if not answers:
            asked_for.set()
        status = 500 if text == "broken" else 200
        return web.Response(text=text, status=status, content_type="application/json")

    application = web.Application()
    application.router.add_get("/vips", vips)
    told = samples.section(PAGE, "Data that is refreshed")
    request = make_request("participant_properties", remote_alias="bob@example.com")
    async with TestServer(application, host="127.0.0.1") as server:
        url = str(server.make_url("/vips"))
        cache = str(tmp_path / "vips.json")
        settings: dict[str, Any] = {"url": url, "every": 0.01, "cache": cache}
        plugin = (told.names["Vips"], settings)
        async with make_policy(plugin).serving(in_server=True) as policy:
            assert steps(await decide(policy, request)) == ["abstained"]
            await asyncio.wait_for(asked_for.wait(), HANG_S)
            assert steps(await decide(policy, request)) == ["decided"]
        # The service is down at the next start: the file has the last list.
        assert steps(await decide((told.names["Vips"], settings), request)) == ["decided"]
        settings["cache"] = str(tmp_path / "none.json")
        assert steps(await decide((told.names["Vips"], settings), request)) == ["failed"]
    await told.names["test_the_last_value_stays_while_the_service_is_down"]()
    make_policy(told.plugin("Vips"), config=told.config)


@samples.covers(PAGE, "Tasks of your own")
async def test_a_task_that_a_lifespan_starts_is_supervised(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = asyncio.Queue[bytes]()

    async def announce(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await lines.get():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(announce, "127.0.0.1", 0)
    connect, port = asyncio.open_connection, server.sockets[0].getsockname()[1]
    monkeypatch.setattr(asyncio, "open_connection", lambda host, _: connect(host, port))
    plugin = samples.section(PAGE, "Tasks of your own").names["Announcements"]
    request = make_request("participant_properties")
    async with make_policy(plugin).serving() as policy:
        lines.put_nowait(b"Dana of Oslo\n")

        async def named() -> bool:
            fields = (await decide(policy, request)).decision.set_fields()
            return fields == {"remote_display_name": "Dana of Oslo"}

        await until(named)
        lines.put_nowait(b"\xff\n")
        failures = policy.lifespans["announcements"].failures
        await until(lambda: "its task listen ended: UnicodeDecodeError" in str(failures))
        assert await named()
    lines.put_nowait(b"")
    server.close()
    monkeypatch.undo()
    with pytest.raises(PluginStartupError, match="ConnectionRefusedError"):
        await decide(plugin, request)


@samples.covers(PAGE, "Shared resources")
async def test_a_source_is_shared_by_plugins_that_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = samples.section(PAGE, "Shared resources")
    (module,) = (block for block in told.blocks if block.file == "acme_directory.py")
    entries = tomllib.loads(next(b.text for b in told.blocks if b.file == "pyproject.toml"))
    (tmp_path / module.file).write_text(module.text)
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    groups = entries["project"]["entry-points"].items()
    lines = [f"[{group}]\n{name} = {value}" for group, e in groups for name, value in e.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)

    async def staff(request: web.Request) -> web.Response:
        if request.query["alias"] != "alice@example.com":
            return web.Response(status=404)
        return web.json_response({"name": "Alice of Accounts"})

    application = web.Application()
    application.router.add_get("/staff", staff)
    async with TestServer(application, host="127.0.0.1") as server:
        config = tmp_path / "config.toml"
        shown = next(block.text for block in told.blocks if block.file == "config.toml")
        config.write_text(shown.replace("http://127.0.0.1:8080", str(server.make_url("/"))[:-1]))
        for alias, name in (("alice@example.com", "Alice of Accounts"), ("bob@example.com", None)):
            request = make_request("participant_properties", remote_alias=alias)
            outcome = await decide(config, request)
            assert outcome.decision.set_fields().get("remote_display_name") == name


@samples.covers(PAGE, "Jobs")
async def test_a_job_deletes_old_rooms(tmp_path: Path) -> None:
    path = tmp_path / "guests.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE rooms (alias TEXT, name TEXT, made TEXT)")
        rows = [("old", "-2 day"), ("new", "-1 hour")]
        insert = "INSERT INTO rooms VALUES (?, ?, datetime('now', ?))"
        database.executemany(insert, [(alias, alias.title(), age) for alias, age in rows])
    told = samples.section(PAGE, "Jobs")
    plugin = (told.names["Guests"], {"database": str(path)})
    async with make_policy(plugin).serving(in_server=True) as policy:
        for alias, expected in (("old", ["abstained"]), ("new", ["decided"])):
            request = make_request("service_configuration", local_alias=alias)

            async def is_asked() -> bool:
                return steps(await decide(policy, request)) == expected  # noqa: B023

            await until(is_asked)
    make_policy(told.plugin("Guests"), config=told.config)
