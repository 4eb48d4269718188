"""Login, roles and the checks of each request, at a running console."""

import asyncio
import os
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from pexpolicy.access.credentials import MAX_FIRST, VerificationQueueFull
from pexpolicy.config.schema.console import ConsoleUserTable
from pexpolicy.config.secrets import PasswordHash
from pexpolicy_console.action_log import ActionLog, ActionLogError
from pexpolicy_console.command import console as console_command
from pexpolicy_console.login.attempts import LoginAttempts
from pexpolicy_console.login.sessions import LoginLinks, Role
from pexpolicy_console.template_filters import breakable
from tests.support import forked
from tests.support.live_console import LiveConsole, Page, running_console

CONFIG = """
[audit]
path = "audit.jsonl"

[console]
label = "<b>production</b>"

[[console.users]]
user = "vera"
role = "viewer"
password_file = "vera.txt"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "config.toml").write_text(CONFIG)
    (folder / "vera.txt").write_text("correct horse battery")
    with running_console(folder / "config.toml") as console:
        yield console


@pytest.fixture
def console(running: LiveConsole) -> LiveConsole:
    """Return a browser without a session."""
    return LiveConsole(running.url, running.folder, running.pid, running.config)


def test_without_a_session_each_path_leads_to_the_login(console: LiveConsole) -> None:
    for path, shown in (
        ("/", "/login"),
        ("/logout", "/login"),
        ("/no-such-page", "/login?to=%2Fno-such-page"),
        ("/decisions?alias=a%26b&node=x", "/login?to=%2Fdecisions%3Falias%3Da%2526b%26node%3Dx"),
    ):
        reply = console.get(path)
        assert (reply.status, reply.headers.get("Location")) == (303, shown), path
        head = console.send("HEAD", path, None, {})
        assert (head.status, head.headers.get("Location")) == (303, shown), path
    # A client that follows redirects gets to an end.
    assert console.send("HEAD", "/login", None, {}).status == 200


def by_password(console: LiveConsole, **fields: str) -> Page:
    form = {"user": "vera", "password": "correct horse battery", **fields}
    return console.send("POST", "/login", urlencode(form), {"Origin": console.url})


def test_a_link_to_a_page_works_after_the_login(console: LiveConsole) -> None:
    link = "/decisions?alias=a%26b&node=x"
    shown = console.get(console.get(link).headers["Location"]).text
    assert 'name="to" value="/decisions?alias=a%26b&amp;node=x"' in shown
    assert by_password(console, to=link).headers["Location"] == link
    refused = by_password(console, to=link, password="wrong").text
    assert 'name="to" value="/decisions?alias=a%26b&amp;node=x"' in refused
    assert 'name="user" value="vera"' in refused


@pytest.mark.parametrize(
    "elsewhere",
    [
        *("//evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example", "x"),
        *("", "javascript:alert(1)", "/\n/evil.example", "/logout", "/login?to=/nodes", "/\u00e9"),
        "/" + 3000 * "x",
    ],
)
def test_a_login_leads_to_pages_of_the_console_only(console: LiveConsole, elsewhere: str) -> None:
    assert by_password(console, to=elsewhere).headers["Location"] == "/"
    shown = console.get(f"/login?{urlencode({'to': elsewhere})}", Sec_Fetch_Site="cross-site").text
    assert "Open its page" not in shown
    assert 'name="to"' not in shown


def test_the_command_prints_a_link_of_the_role(console: LiveConsole) -> None:
    command = ("login", "--config", str(console.config), "--url", console.url, "--role", "operator")
    printed = CliRunner().invoke(console_command, command).stdout.splitlines()[0]
    assert printed.startswith(f"{console.url}/login?link=")
    token = printed.partition("link=")[2]
    reply = console.send("POST", "/login", f"link={token}", {"Origin": console.url})
    assert reply.status == 303
    assert console.actions()[-1]["role"] == "operator"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_link_that_root_makes_belongs_to_the_user_of_the_console(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[console]\nfolder = "private/data"\n')
    folder = tmp_path / "private" / "data"
    folder.mkdir(parents=True)
    # As the state folder of a service with a dynamic user.
    folder.parent.chmod(0o700)
    os.chown(folder, 61234, 61234)
    assert logged_in_on_the_command_line(config).returncode == 0
    (link,) = (folder / "logins").iterdir()
    assert {link.stat().st_uid, link.parent.stat().st_uid} == {61234}


def logged_in_on_the_command_line(config: Path) -> subprocess.CompletedProcess[str]:
    return forked.run("console", "login", "--config", str(config))


@pytest.mark.skipif(os.geteuid() != 0, reason="another user may make the folder")
def test_root_makes_no_folder_that_the_console_could_not_write(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[console]\n")
    said = logged_in_on_the_command_line(config)
    assert (said.returncode, said.stdout) == (1, "")
    assert "start the console first" in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_root_follows_the_link_of_a_state_folder(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[console]\nfolder = "state"\n')
    folder = tmp_path / "private"
    folder.mkdir()
    os.chown(folder, 61234, 61234)
    (tmp_path / "state").symlink_to("private")
    assert logged_in_on_the_command_line(config).returncode == 0
    (link,) = (folder / "logins").iterdir()
    assert link.stat().st_uid == 61234


def test_links_in_another_folder_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[console]\n")
    (tmp_path / "console-data").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    old = other / ("0" * 64)
    old.touch()
    os.utime(old, (0, 0))
    (tmp_path / "console-data" / "logins").symlink_to(other)
    said = logged_in_on_the_command_line(config)
    assert (said.returncode, said.stdout) == (1, "")
    assert "console-data/logins cannot be written" in said.stderr
    assert [*other.iterdir()] == [old]


def test_only_old_links_are_removed(tmp_path: Path) -> None:
    logins = tmp_path / "logins"
    logins.mkdir()
    target = tmp_path / "target"
    for path in (target, logins / ("a" * 64), logins / "notes.txt", logins / ("b" * 63)):
        path.touch()
        os.utime(path, (0, 0))
    (logins / ("c" * 64)).symlink_to(target)
    os.utime(logins / ("c" * 64), (0, 0), follow_symlinks=False)
    links = LoginLinks(tmp_path)
    first = links.create("ann", Role.ADMIN)
    second = links.create("ann", Role.ADMIN)
    names = {path.name for path in logins.iterdir()}
    assert {"notes.txt", "b" * 63, "c" * 64} < names
    assert "a" * 64 not in names
    assert [links.use(token) for token in (first, second)] == [("ann", Role.ADMIN)] * 2


def test_a_login_link_works_once(console: LiveConsole) -> None:
    token = console.link()
    first = console.send("POST", "/login", f"link={token}", {"Origin": console.url})
    assert first.status == 303
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    again = console.send("POST", "/login", f"link={token}", {"Origin": console.url})
    assert again.status == 401
    assert "Set-Cookie" not in again.headers


def test_a_password_gives_the_role_of_its_user(console: LiveConsole) -> None:
    form = "user=vera&password=correct+horse+battery"
    reply = console.send("POST", "/login", form, {"Origin": console.url})
    assert reply.status == 303
    console.cookie = reply.headers["Set-Cookie"].partition(";")[0]
    assert "vera <small>viewer</small>" in console.get("/").text
    assert console.actions()[-1]["event"] == "login"
    assert console.actions()[-1]["role"] == "viewer"


def test_wrong_credentials_are_recorded_and_delayed_longer_each_time(console: LiveConsole) -> None:
    for user in ("vera", "nobody"):
        started = time.monotonic()
        reply = console.send(
            "POST", "/login", f"user={user}&password=guess", {"Origin": console.url}
        )
        assert reply.status == 401
        assert time.monotonic() - started >= 0.1
        assert console.actions()[-1]["event"] == "login refused"


async def test_no_user_is_told_by_the_time_of_a_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = str(PasswordHash.create("x", ln=1))
    users = [
        ConsoleUserTable(user="vera", password_file="vera.txt"),
        ConsoleUserTable(user="otto", password_hash=hashed),
    ]
    (tmp_path / "vera.txt").write_text("correct horse battery")
    verified: list[bytes] = []
    monkeypatch.setattr(PasswordHash, "matches", lambda _, password: verified.append(password))
    attempts = LoginAttempts(ActionLog(tmp_path))
    for user in ("vera", "otto", "mallory"):
        assert not await attempts.verify(users, tmp_path, user, f"guess {user}")
    attempts.close()
    assert verified == [b"guess vera", b"guess otto", b"guess mallory"]


async def test_guesses_from_many_addresses_lock_no_user_out(tmp_path: Path) -> None:
    (tmp_path / "vera.txt").write_text("right")
    actions = ActionLog(tmp_path)
    actions.record("login", 'a "name"', "10.0.0.1", method="link")
    attempts = LoginAttempts(actions)  # as after a restart of the console
    users = [ConsoleUserTable(user="vera", role="viewer", password_file="vera.txt")]

    async def admitted(peer: str) -> object:
        with attempts.attempt(peer):
            return await attempts.verify(users, tmp_path, "vera", "right", peer)

    peers = [*(f"10.1.{n}.1" for n in range(99)), "10.0.0.1"]
    found = await asyncio.gather(*map(admitted, peers), return_exceptions=True)
    attempts.close()
    assert sum(isinstance(one, VerificationQueueFull) for one in found) == 99 - MAX_FIRST
    assert found[-1] is Role.VIEWER


async def test_names_of_any_length_take_little_memory(tmp_path: Path) -> None:
    attempts = LoginAttempts(ActionLog(tmp_path))
    tracemalloc.start()
    try:
        failed = [attempts.failed(f"10.0.0.{n}", "wrong", f"{n}" * 500_000) for n in range(9)]
        await asyncio.gather(*failed)
        del failed
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
        attempts.close()


def test_a_session_ends_at_the_server(console: LiveConsole) -> None:
    console.log_in()
    assert console.get("/").status == 200
    assert console.post("/logout").status == 303
    assert console.get("/").status == 303


def test_nothing_is_shown_or_done_that_cannot_be_recorded(console: LiveConsole) -> None:
    console.log_in()
    actions = console.folder / "actions.jsonl"
    kept = actions.rename(console.folder / "kept")
    actions.mkdir()
    try:
        for reply in (
            console.get("/decisions"),
            console.send("POST", "/login", f"link={console.link()}", {"Origin": console.url}),
        ):
            assert reply.status == 503
            assert "own audit cannot be written: Is a directory" in reply.text
            assert "Set-Cookie" not in reply.headers
        # A logout ends the session all the same.
        assert console.post("/logout").status == 503
        assert console.get("/").status == 303
    finally:
        actions.rmdir()
        kept.rename(actions)


def test_a_session_identifier_of_the_browser_is_never_used(console: LiveConsole) -> None:
    planted = f"pexpolicy_console_{console.netloc.rpartition(':')[2]}=planted"
    reply = console.send(
        "POST", "/login", f"link={console.link()}", {"Origin": console.url, "Cookie": planted}
    )
    assert reply.status == 303
    assert "planted" not in reply.headers["Set-Cookie"]
    assert console.send("GET", "/", None, {"Cookie": planted}).status == 303


def test_a_page_for_other_roles_says_so_and_leads_back(console: LiveConsole) -> None:
    reply = console.log_in("viewer").get("/try")
    assert reply.status == 403
    assert "Your role, viewer, may not do this." in reply.text
    assert '<a href="/">Overview</a>' in reply.text


def test_a_form_after_the_end_of_a_session_says_that_it_was_not_done(console: LiveConsole) -> None:
    console.log_in().post("/logout")
    reply = console.post("/audit/verify")
    assert reply.status == 401
    assert "what you sent was not done" in reply.text
    assert 'name="password"' in reply.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(console: LiveConsole, headers: dict[str, str]) -> None:
    console.log_in()
    assert console.post("/logout", headers=headers).status == 403
    assert console.get("/").status == 200


def test_a_form_without_the_token_of_the_session_is_refused(console: LiveConsole) -> None:
    console.log_in()
    assert console.post("/logout", {"csrf_token": "wrong"}).status == 403
    assert console.get("/").status == 200


def test_another_name_of_the_host_is_refused(console: LiveConsole) -> None:
    console.log_in()
    assert console.get("/", Host="evil.example").status == 421


def test_headers_of_a_proxy_that_is_not_named_mean_nothing(console: LiveConsole) -> None:
    spoofed = {"X_Forwarded_User": "ann", "X_Forwarded_Groups": "admin", "X_Forwarded_For": "::1"}
    assert console.get("/", **spoofed).status == 303


def test_each_reply_has_a_strict_policy_and_is_not_stored(console: LiveConsole) -> None:
    console.log_in()
    for path in ("/", "/nodes", "/no-such-page", "/login"):
        headers = console.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_long_texts_break_at_their_parts_and_are_escaped() -> None:
    shown = breakable("/etc/<b>/a_name@example.com")
    assert shown == "/<wbr>etc/<wbr>&lt;b&gt;/<wbr>a_<wbr>name<wbr>@example<wbr>.com"
    assert breakable("\0<") == "\ufffd&lt;"
    assert breakable(7) == "7"


def test_text_of_the_configuration_is_escaped(console: LiveConsole) -> None:
    assert "<b>production</b>" not in console.log_in().get("/").text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/vendor/../../app.py",
    ],
)
def test_only_static_files_are_public(console: LiveConsole, path: str) -> None:
    assert console.get(path).status in (303, 403, 404)


def test_the_server_may_have_another_admin_port(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    with running_console(config, "--admin-port", "1") as console:
        assert "http://127.0.0.1:1," in console.log_in().get("/").text


def test_a_host_that_others_reach_needs_tls(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[console]\nhost = "0.0.0.0"\n')
    with (
        pytest.raises(AssertionError, match=r"console\.host: 0\.0\.0\.0 is reachable"),
        running_console(config),
    ):
        pass


def test_consoles_on_ports_of_one_host_have_cookies_of_their_own(console: LiveConsole) -> None:
    # A browser sends a cookie to each port, as to those that were forwarded to several servers.
    console.log_in()
    others = f"pexpolicy_console=x; {console.cookie}; pexpolicy_console_1=y"
    assert console.get("/", Cookie=others).status == 200
    assert console.cookie.partition("=")[0].endswith(f"_{console.netloc.rpartition(':')[2]}")


def test_a_line_that_does_not_fit_on_the_disk_is_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ActionLog(tmp_path)
    log.record("login", "ann", "127.0.0.1")
    before = log.path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:20]))
    with pytest.raises(ActionLogError, match="No space left on device"):
        log.record("login", "bob", "127.0.0.1")
    assert log.path.read_bytes() == before


def test_a_mistake_in_the_table_of_the_console_is_an_error_at_the_start(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[console]\nlabell = "x"\n\n[[console.users]]\nuser = "ann"\nrole = "viewr"\n'
    )
    ended = forked.run("console", "--config", str(config), "--port", "0")
    assert ended.returncode == 78
    assert "console.labell" in ended.stderr
    assert "console.users[0].role" in ended.stderr
