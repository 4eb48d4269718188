"""The command line: exit codes, what it writes where, and what it refuses."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.config.outgoing import basic
from tests.conformance.servers import Question, go_on, not_found, room, serving, sound, success
from tests.support import tls_server

BELL = "Room\x07\x1b[31m"


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command in a thread, while the event loop of the test serves what it asks."""
    runner = CliRunner(env={"COLUMNS": "100", **environment})
    command = ["conformance", *arguments]
    done = await asyncio.to_thread(runner.invoke, main, command, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def faulty(question: Question) -> web.StreamResponse:
    """Reject with a usable service whose name would ring the bell of a terminal."""
    if question.endpoint != "service_configuration":
        return sound(question)
    return success(room(question, name=BELL, allow_guests="yes"))


async def test_a_clean_server_ends_with_0() -> None:
    async with serving(sound) as url:
        code, out, err = await run(url)
    assert code == 0
    assert f"{url} keeps the contract" in out
    assert err == ""


async def test_an_alias_that_is_not_utf_8_is_wrong_usage() -> None:
    code, _, err = await run("http://127.0.0.1:9", "--alias", "caf\udce9")
    assert code == 2
    assert "'--alias': this is not UTF-8 text" in err


async def test_without_a_terminal_there_is_no_progress_and_no_colour() -> None:
    async with serving(sound) as url:
        _, out, err = await run(url)
    assert "\x1b" not in out + err
    assert "\r" not in out + err


async def test_a_violation_ends_with_1_and_says_where() -> None:
    async with serving(faulty) as url:
        code, out, _ = await run(url)
    assert code == 1
    assert "contract result in service_configuration" in out
    assert "Conference.allow_guests = 'yes'" in out
    assert "GET /policy/v1/service/configuration?call_direction=dial_in" in out
    assert f"{url} breaks the contract" in out
    assert "\x07" not in out
    assert "\x1b" not in out


async def test_json_goes_to_standard_output_alone() -> None:
    async with serving(faulty) as url:
        code, out, _ = await run(url, "--json")
    report = json.loads(out)
    assert code == 1
    assert report["url"] == url
    assert not report["passes"]
    assert report["findings"]["contract"] > 0
    first = report["steps"][0]
    assert first["flow"] == "web join, v39"
    assert first["status"] == 200
    assert first["findings"][0]["level"] == "contract"
    assert first["findings"][0]["topic"] == "result"


async def test_warnings_end_with_0() -> None:
    async with serving(go_on) as url:
        code, out, _ = await run(url)
    assert code == 0
    assert "warning avatar in participant_avatar" in out


async def test_a_server_that_cannot_be_reached_ends_with_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        code, out, err = await run(f"http://127.0.0.1:{port}")
    assert code == 2
    assert out == ""
    assert "cannot be reached" in err


async def test_the_alias_and_the_caller_can_be_chosen() -> None:
    seen: set[str] = set()

    def note(question: Question) -> web.StreamResponse:
        seen.update((question.get("local_alias"), question.alias))
        return sound(question)

    async with serving(note) as url:
        code, _, _ = await run(url, "--alias", "boss@example.org", "--caller", "bob@example.org")
    assert code == 0
    assert {"boss@example.org", "sip:boss@example.org", "bob@example.org"} <= seen


def guarded(question: Question) -> web.StreamResponse:
    given = question.request.headers.get("Authorization")
    return sound(question) if given == basic("pexip", "sesame") else web.Response(status=401)


async def test_the_password_comes_from_the_environment() -> None:
    async with serving(guarded) as url:
        named = url.replace("//", "//pexip@")
        code, _, _ = await run(named, PEXPOLICY_PASSWORD="sesame")
        assert code == 0
        code, out, err = await run(named, PEXPOLICY_PASSWORD="amiss")
    assert code == 2
    assert out == ""
    assert err == f"{url}: the server refuses access (401): user or password is wrong or missing\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://127.0.0.1/"], "is not the URL of a server"),
        (["127.0.0.1:8000"], "is not the URL of a server"),
        (["http://127.0.0.1:99999"], "is not the URL of a server"),
        (["http://user:secret@127.0.0.1/"], "write the user only"),
        (["http://user@127.0.0.1/"], "variable PEXPOLICY_PASSWORD"),
        (["http://127.0.0.1/policy/v1"], "before /policy/v1"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["conformance", *arguments])
    assert result.exit_code == 2
    assert said in result.output
    assert "secret" not in result.output


async def test_a_server_below_a_base_path_is_tested_there() -> None:
    seen: set[str] = set()

    async def view(request: web.Request) -> web.StreamResponse:
        seen.add(request.rel_url.raw_path.partition("/policy/v1/")[0])
        return web.Response(status=404)

    application = web.Application()
    application.router.add_route("*", r"/{path:[\s\S]*}", view)
    runner = web.AppRunner(application, access_log=None, max_line_size=65536)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        code, _, _ = await run(f"http://{host}:{port}/api/pexip/")
    finally:
        await runner.cleanup()
    assert code == 0
    assert seen == {"/api/pexip"}


@pytest.mark.parametrize("max_line", [8190, 65536])
async def test_a_server_that_answers_404_to_everything_is_asked_about(max_line: int) -> None:
    async with serving(sound, max_line=max_line) as url:
        code, out, _ = await run(f"{url}/forgotten")
    assert code == 0
    last = out.splitlines()[-1]
    assert last.startswith(f"{url}/forgotten: every request got 404: is this the URL of a policy")
    assert "keeps the contract" not in out


async def test_a_server_that_answers_404_to_nearly_everything_keeps_the_contract() -> None:
    async with serving(lambda q: go_on() if q.number == 1 else not_found(q)) as url:
        code, out, _ = await run(url)
    assert code == 0
    assert f"{url} keeps the contract: no findings" in out


async def test_a_certificate_is_trusted_by_its_ca(tmp_path: Path) -> None:
    body = json.dumps({"status": "success", "action": "continue"}).encode()
    with tls_server.serving(tmp_path, body) as (url, cacert):
        code, _, err = await run(url)
        assert code == 2
        assert "its certificate is not trusted" in err
        assert "name its CA in SSL_CERT_FILE" in err
        code, out, _ = await run(url, SSL_CERT_FILE=str(cacert))
        assert code == 1
        assert "content-type" in out
        assert "no connection" not in out


async def test_a_long_request_is_cut_on_the_screen_and_whole_in_the_report() -> None:
    async with serving(faulty) as url:
        code, out, _ = await run(url)
        _, report, _ = await run(url, "--json")
    assert code == 1
    lines = [line for line in out.splitlines() if line.startswith("  GET ")]
    assert max(map(len, lines)) <= 170
    assert any(line.endswith("…") for line in lines)
    assert max(len(step["target"]) for step in json.loads(report)["steps"]) > 10_000


async def test_a_server_that_only_fails_does_not_break_the_contract() -> None:
    async with serving(lambda q: web.Response(status=500 if q.number == 3 else 404)) as url:
        code, out, _ = await run(url)
    assert code == 1
    assert f"{url} fails in operation: 1 operation finding" in out
