"""Requests that no browser of a user sends: other sites, planted cookies, confused paths, forged
headers, guessed passwords and floods.
"""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lab.console_attacks.count import Count
from pexpolicy_console.app import PAGES
from tests.support import company
from tests.support.live_console import LiveConsole
from tests.support.waiting import HANG_S

PASSWORD = "canary-console-3Tz8"
MORE = '\n[[console.users]]\nuser = "vera"\nrole = "admin"\npassword_file = "vera"\n'
POSTS = tuple(page.path.format(decision_id="x") for page in PAGES if page.method == "POST")
PROTECTED = (
    *("/", "/decisions", "/decisions/newer", "/try", "/who", "/rooms", "/rules", "/plugins"),
    *("/plugins/rules", "/nodes", "/changes", "/changes/reload", "/changes/back", "/audit"),
    *("/audit/download", "/audit/verify", "/logout", "/blocks", "/servers"),
)
OF_OPERATORS = ("/try", "/who", "/audit/download", "/audit/verify", "/changes/reload", "/blocks")
CONFUSIONS: Sequence[Callable[[str], str]] = (
    lambda path: path,
    lambda path: f"/{path}",
    lambda path: f"/.{path}",
    lambda path: f"/%2e{path}",
    lambda path: f"/x/..{path}",
    lambda path: f"/static/..{path}",
    lambda path: f"/static/%2e%2e{path}",
    lambda path: f"/static/..%2f{path[1:]}",
    lambda path: f"/login/..{path}",
    lambda path: f"/login{path}",
    lambda path: f"/login;{path}",
    lambda path: f"{path}/",
    lambda path: f"{path}/.",
    lambda path: f"{path}%00",
    lambda path: f"{path};x=/static/",
    lambda path: f"{path}?/static/console.css",
    lambda path: f"{path}#/static/",
    lambda path: path.upper(),
    lambda path: path.replace("/", "%2f"),
    lambda path: path.replace("/", "/%20"),
    lambda path: path.replace("/", "\\"),
    lambda path: f"http://127.0.0.1{path}",
    lambda path: f"http://evil.example{path}",
    lambda path: f"//evil.example/..{path}",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "get")
SPOOFED = tuple(
    {name: value}
    for name in (
        *(
            "X-Forwarded-User",
            "X-Remote-User",
            "Remote-User",
            "X-WEBAUTH-USER",
            "X-Auth-Request-User",
        ),
        *("X-Forwarded-Groups", "X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host"),
        *("X-Original-URL", "X-Rewrite-URL", "X-Original-Method", "X-HTTP-Method-Override"),
        *("Authorization", "Cookie", "X-CSRF-Token", "Via", "True-Client-IP", "X-Forwarded-Proto"),
    )
    for value in (
        *("admin", "ann", "127.0.0.1", "::1", "for=127.0.0.1", "/login", "GET", "https"),
        *("Basic YW5uOmFubg==", "Bearer x", "pexpolicy_console=x", "pexpolicy_console="),
    )
)


def _fresh(console: LiveConsole) -> LiveConsole:
    """Return the console without a session."""
    return replace(console, cookie="", token="")


def raw(console: LiveConsole, head: str, body: bytes = b"", source: str = "127.0.0.1") -> bytes:
    """Send bytes; return the first part of what comes back, empty if the console closes."""
    host, _, port = console.netloc.rpartition(":")
    with socket.create_connection((host, int(port)), HANG_S, (source, 0)) as connection:
        try:
            connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1") + body)
            return connection.recv(1 << 16)
        except ConnectionError:
            return b""


def status(reply: bytes) -> int:
    """Return the status of a reply; 0 without one."""
    return int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/") else 0


def _post(console: LiveConsole, path: str, body: str, headers: Mapping[str, str]) -> bytes:
    sent = {
        "Host": console.netloc,
        "Cookie": console.cookie,
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
        **headers,
    }
    lines = [f"{name}: {value}" for name, value in sent.items() if value]
    return raw(console, "\r\n".join([f"POST {path} HTTP/1.1", *lines]), body.encode())


def forgery(console: LiveConsole) -> Count:
    """Send forms of other sites with the cookie of a user."""
    count = Count("forged requests of other sites")
    console.log_in()
    other = _fresh(console).log_in()
    own, token = console.url, f"csrf_token={console.token}"
    origins = (
        *("", "null", "https://evil.example", f"{own}.evil.example", f"https://{console.netloc}"),
        *(f"http://evil.example#{own}", f"{own}@evil.example", f"{own}/", "http://localhost", "*"),
        *(own.upper(), f"http://127.0.0.1:{9}", f"{own}, {own}", f"{own} https://evil.example"),
    )
    forged: list[tuple[str, dict[str, str]]] = [(token, {"Origin": origin}) for origin in origins]
    forged += [
        (token, {"Origin": own, "Sec-Fetch-Site": site})
        for site in ("cross-site", "same-site", "none", "x")
    ]
    forged += [
        (body, {"Origin": own})
        for body in (
            *(
                "",
                "csrf_token=",
                "csrf_token=x",
                f"csrf_token={other.token}",
                f"Csrf_token={console.token}",
            ),
            *(
                f"csrf_token[]={console.token}",
                f"{token}&{token}",
                f"csrf_token={console.token[:-1]}",
            ),
            *(
                f"csrf_token={console.token}%00",
                f"csrf_token={console.token}x",
                f"x={console.token}",
            ),
        )
    ]
    forged += [
        (token, {"Origin": own, "Content-Type": kind})
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/json", "")
    ]
    forged += [
        ("", {"Origin": own, "X-CSRF-Token": sent})
        for sent in ("x", other.token, f"{console.token}x", f"{console.token}, {console.token}")
    ]
    for path, (body, headers) in itertools.product(POSTS, forged):
        reply = _post(console, path, body, headers)
        count.add(not 400 <= status(reply) < 500, f"{path} {body} {headers}: {reply[:40]!r}")
        in_url = _post(console, f"{path}?{token}", "", {"Origin": own})
        count.add(not 400 <= status(in_url) < 500, f"{path} with the token in the URL")
    for path in POSTS:
        reply = raw(
            console,
            f"GET {path}?{token}&_method=POST HTTP/1.1\r\nHost: {console.netloc}\r\n"
            f"Cookie: {console.cookie}\r\nX-HTTP-Method-Override: POST",
        )
        count.add(path in ("/logout", "/audit/verify") and status(reply) == 200, f"GET {path}")
    done = [line["event"] for line in console.actions()]
    acted = [name for name in done if name not in ("login", "view")]
    count.add(bool(acted), f"actions: {acted}")
    return count


def fixation(console: LiveConsole) -> Count:
    """Plant cookies before a login, and use old ones after it."""
    count = Count("planted and old sessions")
    own = f"pexpolicy_console_{console.netloc.rpartition(':')[2]}"
    names = (own, f"__Host-{own}", "pexpolicy_console", own.upper(), "session")
    for name, value in itertools.product(
        names, ("planted", "a" * 43, "", '"x"', "x; pexpolicy_console=y")
    ):
        fresh = _fresh(console)
        planted = f"{name}={value}"
        headers = {"Origin": console.url, "Cookie": planted}
        reply = fresh.send("POST", "/login", f"link={fresh.link()}", headers)
        given = reply.headers.get("Set-Cookie", "")
        count.add(bool(value) and value in given, f"{planted}: {given}")
        count.add(fresh.send("GET", "/", None, {"Cookie": planted}).status == 200, planted)
    for _ in range(20):
        fresh = _fresh(console).log_in()
        old, old_token = fresh.cookie, fresh.token
        fresh.send("POST", "/login", f"link={fresh.link()}", {"Origin": console.url})
        count.add(fresh.get("/").status == 200, "the session before a second login")
        fresh.log_in()
        count.add(old in fresh.cookie or fresh.token == old_token, "the same cookie or token again")
        fresh.post("/logout")
        count.add(fresh.get("/").status == 200, "a session after the logout")
    link = console.link()
    with ThreadPoolExecutor(16) as pool:
        made = list(
            pool.map(
                lambda _: (
                    console.send("POST", "/login", f"link={link}", {"Origin": console.url}).status
                ),
                range(16),
            )
        )
    count.add(made.count(303) != 1, f"one link used {made.count(303)} times at once")
    return count


def paths(console: LiveConsole) -> Count:
    """Ask for pages by other names, without a session and as a viewer."""
    count = Count("confused paths and methods")
    viewer = _fresh(console).log_in("viewer")
    for cookie, protected in (("", PROTECTED), (viewer.cookie, OF_OPERATORS)):
        for path, confuse, method in itertools.product(protected, CONFUSIONS, METHODS):
            confused = confuse(path)
            head = f"{method} {confused} HTTP/1.1\r\nHost: {console.netloc}"
            if cookie:
                head += f"\r\nCookie: {cookie}"
            reply = raw(console, head)
            # A viewer reaches the pages of viewers, and everybody the login and the style sheet.
            is_open = b"<title>Log in" in reply or b"text/css" in reply
            if cookie:
                is_open |= b"<title>Overview" in reply or b"<title>Decisions" in reply
                is_open |= b"<title>Audit" in reply or b"<title>Changes" in reply
            is_found = 200 <= status(reply) < 300 and not is_open and status(reply) != 204
            count.add(is_found, f"{method} {confused} {'viewer' if cookie else ''}: {reply[:60]!r}")
    return count


def headers(console: LiveConsole) -> Count:
    """Send headers that name a user, an address, a path or a method."""
    count = Count("forged headers")
    for path, spoofed in itertools.product(("/", "/audit/download", "/changes"), SPOOFED):
        lines = [f"{name}: {value}" for name, value in spoofed.items()]
        reply = raw(
            console, "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {console.netloc}", *lines])
        )
        count.add(status(reply) not in (303, 400, 421), f"{path} {spoofed}: {reply[:40]!r}")
    for host in (
        *(
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example:9109",
            "",
        ),
        *("[::1]evil.example", "evil@127.0.0.1x", "127.0.0.1evil", "0x7f000001.evil.example"),
    ):
        reply = raw(console, f"GET /login HTTP/1.1\r\nHost: {host}")
        count.add(status(reply) == 200, f"Host: {host}: {reply[:40]!r}")
    return count


def guesses(console: LiveConsole, number: int, right: str) -> Count:
    """Guess passwords from five addresses; the right one is among the last guesses."""
    count = Count("guessed passwords")
    verified = [0]
    lock = threading.Lock()

    def guess(index: int) -> bytes:
        password = right if index >= number - 5 else f"guess-{index}"
        body = f"user=vera&password={password}".encode()
        head = (
            f"POST /login HTTP/1.1\r\nHost: {console.netloc}\r\nOrigin: {console.url}\r\n"
            f"X-Forwarded-For: 10.0.{index % 250}.{index // 250}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}"
        )
        reply = raw(console, head, body, f"127.0.0.{2 + index % 5}")
        with lock:
            verified[0] += status(reply) == 401
        return reply

    with ThreadPoolExecutor(16) as pool:
        for index, reply in enumerate(pool.map(guess, range(number))):
            count.add(status(reply) not in (401, 429), f"guess {index}: {reply[:40]!r}")
    limit = 20 * 5
    count.add(verified[0] > limit, f"{verified[0]} guesses were verified, more than {limit}")
    return count


def floods(console: LiveConsole, number: int) -> Count:
    """Ask for newer calls, and send half requests, without an end; another user must be served."""
    count = Count("questions for newer calls and half-sent requests")
    ann = [_fresh(console).log_in() for _ in range(8)]
    bob = _fresh(console).log_in("viewer", "bob")
    with ExitStack() as opened:
        for index in range(number):
            asked = (
                f"GET /decisions/newer?view={index} HTTP/1.1\r\nHost: {console.netloc}\r\n"
                f"Cookie: {ann[index % 8].cookie}\r\n\r\n"
            )
            source = f"127.0.1.{1 + index % 40}"
            reply = opened.enter_context(_open(console, asked, source)).recv(256)
            count.add(status(reply) != 200, f"question {index}: {reply[:40]!r}")
        for index in range(number):
            half = (
                "POST /login HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx"
                if index % 2
                else "GET / HT"
            )
            opened.enter_context(_open(console, half, f"127.0.1.{1 + index % 40}"))
        for _ in range(20):
            count.add(bob.get("/").status != 200, "another user is not served")
    return count


def _open(console: LiveConsole, text: str, source: str) -> socket.socket:
    host, _, port = console.netloc.rpartition(":")
    connection = socket.create_connection((host, int(port)), HANG_S, (source, 0))
    connection.sendall(text.encode())
    return connection


def attack(folder: Path, guessed: int, flooded: int) -> Iterator[Count]:
    """Try each kind of attack."""
    folder.mkdir(exist_ok=True)
    with company.running(folder, MORE) as running:
        (running.config.parent / "vera").write_text(PASSWORD)
        for kind in (forgery, fixation, paths, headers):
            yield kind(running.console)
        yield guesses(running.console, guessed, PASSWORD)
        yield floods(running.console, flooded)
