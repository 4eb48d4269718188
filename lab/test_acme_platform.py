"""The example package of a company: a wheel of its own, installed beside a wheel of the core."""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.test_plugin_logs import answers
from tests.support import clean_install, live_server, wire
from tests.support.paths import ROOT
from tests.support.server_process import free_port

EXAMPLE = ROOT / "examples" / "acme-platform"
VISITORS = """
[audit]
path = "audit.jsonl"

[plugins.acme_visitors]
log_level = "debug"
isolation = "process"
processes = 1

[plugins.acme_visitors.settings]
domain = "acme.example"
"""
CLOSURES = """
[admin]
plugin_token_env = "ACME_DESK_TOKEN"

[audit]
path = "audit.jsonl"

[plugins.acme_closures.settings]
file = "closed.json"
"""


@dataclass(frozen=True)
class Installed:
    """An environment with both wheels, and a folder with the tests of the package."""

    environment: clean_install.Environment
    folder: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("company")
    environment = clean_install.create_environment(folder / "venv")
    wheels = [
        clean_install.build_wheel(environment, source, folder / f"wheels-{number}")
        for number, source in enumerate((ROOT, EXAMPLE))
    ]
    install = ["pip", "install", "-q", "--ignore-installed", "--no-deps", *map(str, wheels)]
    environment.run([environment.python, "-m", *install], folder)
    for name in ("tests", "src", "pyproject.toml"):
        copied = EXAMPLE / name
        (shutil.copytree if copied.is_dir() else shutil.copy)(copied, folder / name)
    return Installed(environment, folder)


def test_its_tests_pass_with_the_wheels(installed: Installed) -> None:
    # Without the source tree: the tests import the wheel.
    (installed.folder / "src").rename(installed.folder / "unused")
    try:
        run = [installed.environment.python, "-m", "pytest", "-q"]
        assert "passed" in installed.environment.run(run, installed.folder)
    finally:
        (installed.folder / "unused").rename(installed.folder / "src")


def test_it_is_typed(installed: Installed) -> None:
    run = [installed.environment.python, "-m", "mypy"]
    shown = installed.environment.run(run, installed.folder, {"MYPYPATH": "src"})
    assert "Success" in shown


def test_a_plugin_in_a_process_of_its_own_writes_to_the_log_of_the_server(
    installed: Installed, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(VISITORS)
    port, stderr = free_port(), tmp_path / "stderr"
    command = [installed.environment.python, "-m", "pexpolicy", "serve", "--port", str(port)]
    target = f"{wire.PARTICIPANT}?remote_alias=eve%40elsewhere.example&remote_display_name=Eve"
    with (
        stderr.open("w") as file,
        subprocess.Popen([*command, "--admin-port", "0"], cwd=tmp_path, stderr=file) as server,
    ):
        try:
            deadline = time.monotonic() + 20
            while not answers(port) and time.monotonic() < deadline:
                time.sleep(0.05)
            reply = wire.ask_blocking(port, target)
            while "a visitor" not in stderr.read_text() and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            server.terminate()
            server.wait(20)
    assert reply.result == {"remote_display_name": "Eve (visitor)"}
    lines = [json.loads(line) for line in stderr.read_text().splitlines() if line[0] == "{"]
    (line,) = [line for line in lines if line["event"] == "a visitor"]
    assert line["decision_id"] == reply.json["decision_id"]
    assert (line["plugin"], line["hook"]) == ("acme_visitors", "participant_properties")
    assert line["domain"] == "elsewhere.example"


def test_a_room_is_closed_by_http_and_listed_by_a_command(
    installed: Installed, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CLOSURES)
    token = {"ACME_DESK_TOKEN": "a-token-of-the-service-desk"}
    python, path = installed.environment.python, "/plugins/acme_closures/rooms/board"
    with live_server.running(config, python=python, folder=tmp_path, environment=token) as server:
        assert server.operator(path, method="PUT").status == 401
        bearer = {"Authorization": f"Bearer {token['ACME_DESK_TOKEN']}"}
        assert server.operator(path, method="PUT", headers=bearer).status == 204
        reply = server.ask(f"{wire.SERVICE}?local_alias=sip:board%40acme.example")
        assert (reply.action, reply.json["decided_by"]) == ("reject", "acme_closures")
    run = [python, "-m", "pexpolicy"]
    listed = installed.environment.run([*run, "acme-closures", "closed.json"], tmp_path)
    assert listed == "board\n"
    assert "acme-platform" in installed.environment.run([*run, "--help"], tmp_path)
