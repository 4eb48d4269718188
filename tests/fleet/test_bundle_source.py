"""Bundles from a web server or file: what is accepted, and that the present one stays otherwise."""

import asyncio
import hashlib
import hmac
import re
import shutil
import signal
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import hdrs, web

from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.fleet import bundle
from pexpolicy.fleet.bundle import BundleSource, report
from tests.fleet.bundles import ROWS, Maker, adding, forged, run, swapped, swollen, without
from tests.support import forked, live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CUT = 300


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})


class Server:
    """A server with a bundle, as one process of it sees it."""

    def __init__(self, maker: Maker, url: str) -> None:
        self.maker = maker
        self.log = Log()
        self.source = BundleSource(self.log)
        self.config = maker.folder / "server" / "config.toml"
        self.config.parent.mkdir(exist_ok=True)
        self.trust("now")
        self.write(url)

    def write(self, url: str) -> None:
        keys = 'public_keys = ["first.pub", "second.pub"]'
        self.config.write_text(f'[bundle]\nurl = "{url}"\n{keys}\n')

    def trust(self, first: str, second: str = "now") -> None:
        for name, key in (("first", first), ("second", second)):
            content = (self.maker.folder / f"{key}.pub").read_bytes()
            (self.config.parent / f"{name}.pub").write_bytes(content)

    @property
    def settings(self) -> Settings:
        try:
            return load(self.config)
        except ConfigError as error:
            if error.salvaged is None:
                raise
            return error.salvaged

    @property
    def version(self) -> str:
        present = self.settings.present
        return present.manifest.version if present is not None else ""

    async def pull(self) -> str:
        return await self.source.pull(self.settings)


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Web:
    """A web server whose reply is ``content`` with an entity tag, or what ``answer`` makes."""

    def __init__(self) -> None:
        self.url = ""
        self.content = b""
        self.statuses: list[int] = []
        self.answer: Answer | None = None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.answer is not None:
            return await self.answer(request)
        reply = web.Response(body=self.content)
        reply.etag = tag = str(hash(self.content))
        if tag in [one.value for one in request.if_none_match or ()]:
            reply = web.Response(status=304)
        self.statuses.append(reply.status)
        return reply


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@asynccontextmanager
async def serving(maker: Maker) -> AsyncIterator[tuple[Server, Web]]:
    """Serve bundles to a server that has the fifth."""
    site = Web()
    runner = web.ServerRunner(web.Server(site))
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    try:
        site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        server = Server(maker, f"{site.url}/stable.tar.gz?sig=x")
        site.content = maker.archive(5).read_bytes()
        assert await server.pull() == ""
        assert server.version == "v5"
        yield server, site
    finally:
        await runner.cleanup()


REFUSED = [
    (lambda archive: archive.read_bytes()[:CUT], "cut short"),
    (lambda archive: archive.read_bytes()[:-30], "cut short"),
    (lambda _: b"<html>not found</html>", "no bundle"),
    (lambda _: b"", "empty file"),
    (forged, "forged"),
    (swapped, "'rooms.csv', which differs from its manifest"),
    (without("manifest.sig"), "not signed"),
    (without("manifest.json"), "does not begin with manifest.json"),
    (without("rooms.csv"), "has no 'rooms.csv'"),
    (swollen, "does not begin with manifest.json"),
    (adding("more.csv"), "'more.csv', which is not in its manifest"),
    (adding("../x.csv"), "leads out of it"),
    (adding("/etc/x.csv"), "leads out of it"),
    (adding("a/../../x.csv"), "leads out of it"),
    (adding("link", b"", type=tarfile.SYMTYPE, linkname="/etc/shadow"), "not a regular file"),
    (adding("link", b"", type=tarfile.LNKTYPE, linkname="rooms.csv"), "not a regular file"),
    (adding("device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5), "not a regular file"),
    (adding("pipe", b"", type=tarfile.FIFOTYPE), "not a regular file"),
    (adding("folder", b"", type=tarfile.DIRTYPE), "not a regular file"),
    (adding("rooms.csv", ROWS.encode()), "which is not in its manifest"),
]


@pytest.mark.parametrize(("broken", "why"), REFUSED)
async def test_the_present_one_stays_and_one_line_says_why(
    maker: Maker, broken: Callable[[Path], bytes], why: str
) -> None:
    async with serving(maker) as (server, site):
        before = sorted(server.settings.bundles.rglob("*.csv"))
        site.content = broken(maker.archive(6))
        for _ in range(3):
            assert why in await server.pull()
        assert server.version == "v5"
        assert [why in str(line["error"]) for line in server.log.lines] == [True]
        assert server.log.lines[0]["present"] == "v5 (sequence 5)"
        assert "sig=x" not in str(server.log.lines)
        assert sorted(server.settings.bundles.glob("[!.]*/**/*.csv")) == before
        told = report(server.settings)
        assert told is not None
        assert (told["version"], why in str(told["problem"])) == ("v5", True)
        # The next good one is taken.
        site.content = maker.archive(7).read_bytes()
        assert (await server.pull(), server.version) == ("", "v7")
        assert len(server.log.lines) == 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda maker: maker.archive(4), "older than the present one: its sequence is 4"),
        (lambda maker: maker.archive(6, "retired"), "signed with none of the public keys"),
        (lambda maker: maker.requiring(6, {"pexpolicy": "0.0.9"}), ""),
        (lambda maker: maker.requiring(6, {"pexpolicy": "97.1"}), "needs pexpolicy 97.1, and 0."),
        (lambda maker: maker.requiring(6, {"nowhere": "1"}), "needs nowhere 1, and none is inst"),
        (lambda maker: maker.archive(5), ""),
    ],
)
async def test_whole_bundles_that_are_accepted_or_refused(
    maker: Maker, make: Callable[[Maker], Path], why: str
) -> None:
    async with serving(maker) as (server, site):
        site.content = make(maker).read_bytes()
        found = await server.pull()
        assert (why in found, bool(found)) == (True, bool(why))
        assert len(server.log.lines) == bool(why)


async def test_a_large_one_and_a_slow_one(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def declared(_: web.BaseRequest) -> web.StreamResponse:
        return web.StreamResponse(headers={"Content-Length": str(1 << 30)})

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(bytes(1 << 20))

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(b"x")
            await asyncio.sleep(0.02)

    async def silent(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(100)
        raise AssertionError("nobody waits so long")

    async with serving(maker) as (server, site):
        for site.answer in (declared, endless):
            assert await server.pull() == "the bundle has more than 100 MB"
        monkeypatch.setattr(bundle, "TIMEOUT_S", 0.3)
        for site.answer in (slow, silent):
            assert await server.pull() == "the bundle was not complete within 0.3 s"
        assert server.version == "v5"
        monkeypatch.setattr(bundle, "MAX_UNPACKED", 30)
        site.answer, site.content = None, maker.archive(6).read_bytes()
        assert "holds more than" in await server.pull()
        assert server.version == "v5"


@pytest.mark.parametrize("status", [404, 500, 304])
async def test_a_reply_without_a_bundle(maker: Maker, status: int) -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(maker) as (server, site):
        site.answer, server.source = answer, BundleSource(server.log)
        assert f"it answers {status}" in await server.pull()
        assert server.version == "v5"


@pytest.mark.parametrize(("age", "known"), [(0, False), (1, True)])
async def test_what_was_written_in_this_second_may_be_written_again(
    maker: Maker, age: int, *, known: bool
) -> None:
    seen = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(hdrs.IF_MODIFIED_SINCE in request.headers)
        now = int(time.time())
        dates = {hdrs.DATE: formatdate(now), hdrs.LAST_MODIFIED: formatdate(now - age)}
        return web.Response(body=site.content, headers=dates)

    async with serving(maker) as (server, site):
        site.answer, server.source = answer, BundleSource(server.log)
        for _ in range(2):
            assert await server.pull() == ""
        assert seen == [False, known]


async def test_an_unchanged_bundle_is_asked_for_by_its_validators(maker: Maker) -> None:
    async with serving(maker) as (server, site):
        await server.pull()
        site.content = maker.archive(6, "retired").read_bytes()
        for _ in range(2):
            assert "none of the public keys" in await server.pull()
        # Its key is put in the place of an old one, while the server runs.
        server.trust("retired")
        assert (await server.pull(), server.version) == ("", "v6")
        site.content = maker.archive(7).read_bytes()
        assert (await server.pull(), server.version) == ("", "v7")
        assert site.statuses == [200, 304, 200, 304, 200, 200]
        server.trust("retired", "retired")
        site.content = maker.archive(8).read_bytes()
        assert "none of the public keys" in await server.pull()
        assert server.version == "v7"


SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def is_signed(request: web.BaseRequest, secret: str = SECRET) -> bool:
    """Return whether an S3 server accepts a request, by Signature Version 4 of AWS."""
    given = request.headers.get("Authorization", "")
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/((\d{8})/([\w-]+)/s3/aws4_request), "
        r"SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})",
        given,
    )
    if found is None or not {"host", "x-amz-date"} <= {*found[4].split(";")}:
        return False
    scope, day, region, names, signature = found.groups()
    signed = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names.split(";"))
    path, payload = request.raw_path, request.headers["x-amz-content-sha256"]
    canonical = f"{request.method}\n{path}\n\n{signed}\n{names}\n{payload}"
    text = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n"
    text += hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex() == signature


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET}, ""),
        ({"AWS_SHARED_CREDENTIALS_FILE": "{folder}/aws", "AWS_REGION": "eu-north-1"}, ""),
        ({"AWS_SHARED_CREDENTIALS_FILE": "{folder}/aws", "AWS_PROFILE": "read"}, ""),
        ({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "old"}, "403 Signature"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "{folder}/none"}, "403 AccessDenied"),
    ],
)
async def test_an_object_in_s3_is_asked_for_with_a_signature(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    async with serving(maker) as (server, site):
        key = f"aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {SECRET}\n"
        read = f"[read]\n{key}aws_session_token = of%read\n"
        (maker.folder / "aws").write_text(f"[default]\n{key}{read}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", site.url)
        for name, value in given.items():
            monkeypatch.setenv(name, value.format(folder=maker.folder))
        server.write("s3://policies/oslo/a b+ü~.tar.gz")

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if is_signed(request):
                assert request.raw_path == "/policies/oslo/a%20b%2B%C3%BC~.tar.gz"
                token = request.headers.get("x-amz-security-token")
                assert token == ("of%read" if "AWS_PROFILE" in given else None)
                site.answer, reply = None, await site(request)
                site.answer = answer
                return reply
            code = "SignatureDoesNotMatch" if "Authorization" in request.headers else "AccessDenied"
            return web.Response(status=403, text=f"<Error><Code>{code}</Code></Error>")

        site.answer, site.content = answer, maker.archive(6).read_bytes()
        for status in (200, 304):
            assert said in (found := await server.pull())
            assert (server.version, site.statuses[-1]) == (("v5", 200) if found else ("v6", status))


async def test_a_file_is_a_source_too_and_few_old_bundles_stay(maker: Maker) -> None:
    server = Server(maker, f"file://{maker.folder}/stable.tar.gz")
    stable = maker.folder / "stable.tar.gz"
    assert "No such file" in await server.pull()
    for sequence in range(1, 9):
        maker.archive(sequence).replace(stable)
        assert (await server.pull(), server.version) == ("", f"v{sequence}")
    left = {path.name.partition(".")[0] for path in server.settings.bundles.iterdir()}
    assert len(left - {"", "present", "problem"}) == bundle.KEPT + 1
    # Each byte is as it was fetched: its signature can be verified again.
    present = server.settings.present
    assert present is not None
    kept = present.folder.with_suffix(".tar.gz")
    assert kept.read_bytes() == stable.read_bytes()
    assert {path.stat().st_mode & 0o77 for path in present.folder.rglob("*.toml")} == {0}
    assert run("bundle", "verify", kept, maker.folder / "now.pub").exit_code == 0
    (server.config.parent / "first.pub").unlink()
    assert "first.pub: No such file" in await server.pull()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from pexpolicy.config.loader import load
from pexpolicy.fleet.bundle import BundleSource

number = int(sys.argv[2])
def count(event, arguments):
    global number
    written = event == "open" and arguments[2] & os.O_WRONLY
    if written or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir"):
        number -= 1
        if not number:
            os.kill(os.getpid(), signal.SIGKILL)

class Log:
    def warning(self, event, **fields):
        print(fields)

settings = load(Path(sys.argv[1]))
sys.addaudithook(count)
print(asyncio.run(BundleSource(Log()).pull(settings)))
"""


async def test_a_kill_at_any_write_leaves_one_whole_bundle(maker: Maker) -> None:
    server = Server(maker, f"file://{maker.folder}/stable.tar.gz")
    stable = maker.folder / "stable.tar.gz"
    for sequence in range(1, 6):  # so that old ones are removed in addition
        maker.archive(sequence).replace(stable)
        assert await server.pull() == ""
    maker.write(rooms_csv=ROWS.replace("Board", "Sales"))
    maker.archive(6).replace(stable)
    names = {"v5": "Board", "v6": "Sales"}
    for number in range(1, 100):
        with forked.Process(str(server.config), str(number), program=KILLED) as child:
            child.wait()
        present = server.settings.present
        assert present is not None
        assert names[server.version] in (present.folder / "rooms.csv").read_text()
        assert {one.name for one in present.folder.iterdir()} == {
            *("manifest.json", "policy.toml", "rooms.csv")
        }
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
    assert (server.version, number > 10) == ("v6", True)


def test_a_refused_bundle_is_in_the_metrics(maker: Maker) -> None:
    server, stable = (
        Server(maker, f"file://{maker.folder}/stable.tar.gz"),
        maker.folder / "stable.tar.gz",
    )
    maker.archive(5).replace(stable)
    with server.config.open("a") as file:
        file.write("every = 1\n")

    def shows(value: str) -> bool:
        return f"\npexpolicy_bundle_refused {value}\n".encode() in running.operator("/metrics").body

    with live_server.running(server.config) as running:
        wait_until(lambda: shows("0.0"))
        maker.archive(4).replace(stable)
        wait_until(lambda: shows("1.0"))
        maker.archive(6).replace(stable)
        wait_until(lambda: shows("0.0"))


def changed(folder: Path) -> None:
    (folder / "rooms.csv").write_text(ROWS.replace("Board", "Fraud"))


def linked(folder: Path) -> None:
    changed(folder.parent)
    (folder / "rooms.csv").unlink()
    (folder / "rooms.csv").symlink_to(folder.parent / "rooms.csv")


def torn(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


@pytest.mark.parametrize("damage", [changed, linked, torn, shutil.rmtree])
async def test_what_differs_from_its_manifest_is_unpacked_again_at_the_next_start(
    maker: Maker, damage: Callable[[Path], object]
) -> None:
    async with serving(maker) as (server, _):
        present = server.settings.present
        assert present is not None
        damage(present.folder)
        with pytest.raises(ConfigError, match=r"bundle\.folder: .* (cannot be used|no bundle)"):
            load(server.config)
        server.source = BundleSource(server.log)
        assert (await server.pull(), server.version) == ("", "v5")
        assert (present.folder / "rooms.csv").read_text() == ROWS


async def test_links_in_the_folder_of_bundles_lead_nowhere(maker: Maker) -> None:
    async with serving(maker) as (server, site):
        bundles, other = server.settings.bundles, maker.folder / "other"
        other.mkdir()
        (victim := maker.folder / "victim").write_text("as it was")
        for name in (bundle.PROBLEM, bundle.NEW):
            path = bundles / name
            path.unlink() if path.is_file() else shutil.rmtree(path)
        (bundles / bundle.PROBLEM).symlink_to(victim)
        (bundles / bundle.NEW).symlink_to(other)
        found = report(server.settings)
        assert found is not None
        assert found["problem"] is None
        site.content = maker.archive(6).read_bytes()
        assert "File exists" in await server.pull()
        assert (victim.read_text(), [*other.iterdir()], server.version) == ("as it was", [], "v5")
