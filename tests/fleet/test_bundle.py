"""Making bundles, and the configuration of a server that has one."""

import json
import tarfile
from pathlib import Path

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.config.loader import load
from tests.fleet.bundles import POLICY, ROWS, Maker, run
from tests.support import live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

DERIVED = """
[plugins.rooms.settings.pin]
derive = "hmac"
secret_file = "pin.key"
of = "name"
"""


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def test_a_bundle_has_the_files_of_a_policy_and_no_secret(maker: Maker) -> None:
    maker.write(POLICY + DERIVED, pin_key="a secret of the site", _git="hidden")
    (maker.folder / "policy" / "lists").mkdir()
    (maker.folder / "policy" / "lists" / "more.csv").write_text("x")
    archive = maker.archive(7)
    with tarfile.open(archive) as members:
        names = members.getnames()
        manifest = json.loads(members.extractfile("manifest.json").read())  # type: ignore[union-attr]
    files = ["lists/more.csv", "policy.toml", "rooms.csv"]
    assert names == ["manifest.json", "manifest.sig", *files]
    assert (manifest["version"], manifest["sequence"], [*manifest["files"]]) == ("v7", 7, files)
    assert manifest["requires"].keys() == {"pexpolicy", "pexpolicy-rooms"}
    before = archive.read_bytes()
    assert maker.archive(7).read_bytes() == before


def test_mistakes_of_the_commands(maker: Maker) -> None:
    folder, archive = maker.folder, maker.archive(1)
    for exit_code, text, *command in (
        (2, "now.key cannot be read or written: File exists", "keygen", folder / "now"),
        (1, "signed with none of the public keys", "verify", archive, folder / "retired.pub"),
        (
            0,
            "v1 (sequence 1), 2 files",
            "verify",
            archive,
            folder / "retired.pub",
            folder / "now.pub",
        ),
        (2, "is not an Ed25519 public key", "verify", archive, folder / "now.key"),
        (2, "is not an Ed25519 key", "sign", archive, folder / "now.pub"),
        (1, "is no bundle", "sign", folder / "now.pub", folder / "now.key"),
        (2, "No such file", "sign", folder / "nothing.tar.gz", folder / "now.key"),
        (78, "policy.toml", "build", folder, archive),
    ):
        done = run("bundle", *map(str, command))
        assert (done.exit_code, text in done.output) == (exit_code, True), (command, done.output)
    maker.write(signer_pem=(folder / "now.key").read_text())
    done = run("bundle", "build", folder / "policy", archive)
    assert (done.exit_code, "signer.pem holds a private key" in done.output) == (1, True)
    maker.write("[plugins.rooms.settings]\ncsv = 7\n")
    assert run("bundle", "build", folder / "policy", archive).exit_code == 78
    assert run("bundle", "verify", archive, folder / "now.pub").exit_code == 0


def server_file(maker: Maker, url: str, more: str = "") -> Path:
    folder = maker.folder / "server"
    folder.mkdir(exist_ok=True)
    config = folder / "config.toml"
    config.write_text(
        f'{more}\n[bundle]\nurl = "{url}"\npublic_keys = ["{maker.folder}/now.pub"]\nevery = 1\n'
        '[audit]\npath = "audit.jsonl"\n'
    )
    return config


def put_present(config: Path, policy: str) -> None:
    """Give a server a bundle that it has not fetched."""
    bundles = config.parent / "state" / "bundles"
    (bundles / "one").mkdir(parents=True, exist_ok=True)
    (bundles / "present").write_text("one")
    manifest = {"version": "v1", "sequence": 1, "requires": {}, "files": {}}
    (bundles / "one" / "manifest.json").write_text(json.dumps(manifest))
    (bundles / "one" / "policy.toml").write_text(policy)
    (bundles / "one" / "rooms.csv").write_text(ROWS)


def test_the_policy_hash_is_that_of_the_same_files_without_a_bundle(maker: Maker) -> None:
    config = server_file(maker, "https://www.example.com/policy")
    put_present(config, POLICY)
    hashes = []
    for path in (config, maker.folder / "policy" / "policy.toml"):
        policy = policy_from(path)
        policy.close()
        hashes.append(policy.policy_hash)
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("policy", "more", "file", "text"),
    [
        (POLICY, "[plugins.domains]\n", "config.toml", "bundle: plugins is in this file too"),
        (POLICY + "[admin]\nport = 1\n", "", "policy.toml", "admin says how one server runs"),
        (POLICY + '[bundle]\nurl = "file:/x"\n', "", "policy.toml", "bundle says how one server"),
        ("[plugins.rooms", "", "policy.toml", "is not valid TOML"),
        (
            POLICY.replace("csv", "cvs"),
            "",
            "policy.toml",
            "plugins.rooms.settings.cvs: unknown key",
        ),
        (POLICY, "[server]\nprot = 1\n", "config.toml", "server.prot: unknown key"),
    ],
)
def test_mistakes_name_the_file_that_has_them(
    maker: Maker, policy: str, more: str, file: str, text: str
) -> None:
    config = server_file(maker, "https://www.example.com/policy", more)
    put_present(config, policy)
    done = run("check", config)
    assert (done.exit_code, f"{file}: 1 error" in done.output, text in done.output) == (
        78,
        True,
        True,
    )


@pytest.mark.parametrize(
    "url",
    [
        "x.tar.gz",
        "s3://bucket",
        "s3:///x",
        "https:///x",
        "https://a:b@c/d",
        "ftp://a/b",
    ],
)
def test_urls_that_are_none(maker: Maker, url: str) -> None:
    assert "bundle.url" in run("check", server_file(maker, url)).output


def test_others_must_not_change_the_folder_of_bundles(maker: Maker) -> None:
    config = server_file(maker, "https://www.example.com/policy")
    put_present(config, POLICY)
    bundles = load(config).bundles
    assert str(bundles) not in run("check", config).output
    bundles.chmod(0o777)
    assert f"bundle.folder: {bundles} can be changed by every user" in run("check", config).output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_takes_a_new_bundle_and_starts_without_its_source(
    maker: Maker, workers: str
) -> None:
    stable = maker.folder / "stable.tar.gz"
    admin = f"[admin]\nport = {free_port()}\n"
    config = server_file(maker, f"file://{stable}", admin)
    started = run("serve", "--config", config)
    assert (started.exit_code, "there is no bundle yet" in started.output) == (75, True)
    maker.archive(1).replace(stable)
    options = ("--workers", workers)
    with live_server.running(config, *options, own_admin_port=True) as server:
        assert server.ask(wire.SERVICE + "?local_alias=board@example.com").json["result"]
        maker.write(rooms_csv=ROWS + "sales@example.com,Sales\n")
        maker.archive(2).replace(stable)
        wait_until(lambda: "v2" in run("status", "--config", config).output)
        first = json.loads(run("config", "history", "--json", "--config", config).stdout)[-1]
        done = run("config", "restore", first["policy_hash"], "--yes", "--config", config)
        assert "present stays: build the earlier bundle with a higher sequence" in done.output
        assert "v2" in run("status", "--config", config).output
        maker.archive(3, "retired").replace(stable)
        wait_until(lambda: run("status", "--config", config).exit_code == 1)
        assert "signed with none of the public keys" in run("status", "--config", config).output
        # Whole and signed, but of a policy that this server cannot build.
        key = maker.folder / "pin.key"
        key.write_text("a secret of the CI")
        maker.write(POLICY + DERIVED.replace("pin.key", str(key)))
        archive = maker.archive(4)
        key.unlink()
        archive.replace(stable)
        wait_until(lambda: "pin.secret_file" in run("status", "--config", config).output)
        assert "v2" in run("status", "--config", config).output
    stable.unlink()
    log: list[str] = []
    with live_server.running(config, *options, own_admin_port=True, log=log) as server:
        assert "the server starts with the bundle on its disk" in "".join(log)
        assert "the last good files are used" in "".join(log)
        wait_until(lambda: "v2" in run("status", "--config", config).output)
        assert server.ask(wire.SERVICE + "?local_alias=sales@example.com").json["result"]
    # Its disk has lost the bundle too, but not the last good files.
    (config.parent / "state" / "bundles" / "present").write_text("lost")
    with live_server.running(config, *options, own_admin_port=True) as server:
        assert server.ask(wire.SERVICE + "?local_alias=sales@example.com").json["result"]
