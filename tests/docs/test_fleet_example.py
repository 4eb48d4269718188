"""The three servers of examples/fleet, which follow its CI."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import live_server, wire
from tests.support.paths import ROOT
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def sh(folder: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-euc", script],
        cwd=folder,
        env={**os.environ, "PATH": PATH, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Path, list[live_server.Running]]]:
    """The example with ports of its own, served as its page says."""
    folder = tmp_path / "fleet"
    shutil.copytree(ROOT / "examples" / "fleet", folder)
    ports = {str(port): str(free_port()) for port in (8010, 9111, 9112, 9113)}
    for path in folder.rglob("*.toml"):
        text = path.read_text()
        for old, new in ports.items():
            text = text.replace(old, new)
        path.write_text(text)
    page = (folder / "README.md").read_text()
    first = page.split("```sh\n")[1].split("python3 -m http.server")[0]
    done = sh(folder, first)
    assert done.returncode == 0, done.stderr
    serve = ["-m", "http.server", ports["8010"], "--bind", "127.0.0.1", "--directory", "site"]
    with ExitStack() as stack:
        web = stack.enter_context(
            subprocess.Popen([sys.executable, *serve], cwd=folder, stderr=subprocess.DEVNULL)
        )
        stack.callback(web.kill)
        wait_until(lambda: sh(folder, f"curl -sf http://127.0.0.1:{ports['8010']}").returncode == 0)
        servers = [
            stack.enter_context(
                live_server.running(
                    folder / "servers" / f"policy-{number}.toml",
                    own_admin_port=True,
                    environment={"no_proxy": "127.0.0.1"},
                )
            )
            for number in (1, 2, 3)
        ]
        yield folder, servers


def names(servers: list[live_server.Running]) -> set[str]:
    target = f"{wire.SERVICE}?local_alias=board@example.com"
    return {server.ask(target).json["result"]["name"] for server in servers}


def test_a_change_reaches_the_canary_and_then_all(
    fleet: tuple[Path, list[live_server.Running]],
) -> None:
    folder, servers = fleet
    assert sh(folder, "pexpolicy test --config policy/policy.toml cases.toml").returncode == 0
    rooms = folder / "policy" / "rooms.csv"
    rooms.write_text(rooms.read_text().replace("Board", "Directors"))
    ci = {"KEY": "servers/bundle.key", "SITE": "site"}
    done = sh(folder, "./publish.sh", VERSION="second", WAIT="120", **ci)
    assert (done.returncode, names(servers)) == (0, {"Directors"}), done.stderr
    # A bundle that the canary refuses goes no further.
    assert sh(folder, "pexpolicy bundle keygen other").returncode == 0
    done = sh(folder, "./publish.sh", VERSION="third", WAIT="6", **{**ci, "KEY": "other.key"})
    assert (done.returncode, names(servers)) == (1, {"Directors"})
    assert "policy-1 (" in done.stderr
    assert "signed with none of the public keys" in done.stderr
    done = sh(folder, "pexpolicy status --config all.toml --fleet")
    assert (done.returncode, "bundle differs" in done.stderr) == (1, False)
