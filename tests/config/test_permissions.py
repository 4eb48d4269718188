"""Files as the user that serves sees them: following the advice is enough for this user."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.config import permissions
from pexpolicy.config.files import read_file, why_unusable
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root judges for other users")

CONFIG = """
[auth]
user = "a"
password_file = "secret"
[plugins.webhook.settings]
url = "https://events.example.com"
token_file = "secret"
spool = "{spool}"
"""
DYNAMIC = "DynamicUser=yes\nStateDirectory=pexpolicy\nSupplementaryGroups="
UNITS = {
    "dynamic": f"{DYNAMIC}daemon\n",
    "named": "User=nobody\nGroup=daemon\nStateDirectory=pexpolicy\n",
    "of its own": "User=nobody\nStateDirectory=pexpolicy\n",
}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a group, which the user of the service may enter; those of pytest are root's."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        monkeypatch.setattr(permissions, "UNITS", (path / "units",))
        (path / "units" / "pexpolicy.service.d").mkdir(parents=True)
        (path / "secret").write_text("a-long-secret-of-many-letters")
        (path / "config.toml").write_text(CONFIG.format(spool="/var/lib/pexpolicy/events"))
        for one, mode in ((path, 0o750), (path / "config.toml", 0o640)):
            os.chown(one, 0, 1)  # the group daemon
            one.chmod(mode)
        yield path


def checked(folder: Path, *options: str) -> tuple[int, str]:
    config = ["-c", str(folder / "config.toml"), "--json", *options]
    done = CliRunner().invoke(main, ["check", *config], catch_exceptions=False)
    found = json.loads(done.stdout)
    return done.exit_code, "\n".join(
        f"{one['key']}: {one['message']}" for one in found["errors"] + found["warnings"]
    )


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("unit", UNITS)
def test_following_the_advice_lets_the_service_read_a_secret_and_no_other_user(
    folder: Path, unit: str, mode: int
) -> None:
    serve = f"[Service]\nExecStart=/x serve --config {folder}/config.toml\n"
    (folder / "units" / "pexpolicy.service").write_text(serve)
    console = (ROOT / "deploy/systemd/pexpolicy-console.service").read_text()
    other = console.replace("/etc/pexpolicy", str(folder))
    (folder / "units" / "pexpolicy-console.service").write_text(other)
    (folder / "units" / "pexpolicy.service.d" / "user.conf").write_text(UNITS[unit])
    if unit == "of its own":
        folder.chmod(0o755)
        os.chown(folder / "config.toml", 65534, 0)
    (folder / "secret").chmod(mode)
    code, said = checked(folder)
    assert code == (78 if mode == 0o600 else 0), said
    assert not any(str(number) in said for number in permissions.DYNAMIC)
    advice = next(line for line in said.splitlines() if "secret " in line).partition("by ")[2]
    subprocess.run(["/bin/sh", "-c", advice.partition(": ")[2]], check=True)
    assert "/secret" not in checked(folder)[1]
    assert (folder / "secret").stat().st_mode & 0o007 == 0
    assert checked(folder)[0] == 0


def test_a_place_that_the_service_cannot_write_to_is_an_error(folder: Path) -> None:
    (folder / "secret").chmod(0o640)
    os.chown(folder / "secret", 0, 1)
    (folder / "config.toml").write_text(CONFIG.format(spool="events"))
    code, said = checked(folder, "--as", "daemon")
    assert (code, said.partition(": ")[0]) == (78, "plugins.webhook.settings.spool")
    (folder / "events").mkdir(mode=0o700)
    os.chown(folder / "events", 1, 1)
    assert checked(folder, "--as", "daemon")[0] == 0


def test_the_server_gives_the_same_advice(folder: Path) -> None:
    (folder / "secret").chmod(0o600)
    try:
        os.setegid(1)
        os.seteuid(61234)
        with pytest.raises(PermissionError) as error:
            read_file(folder / "secret")
        said = why_unusable(folder / "secret", error.value)
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert f"chgrp daemon {folder}/secret && chmod 640 {folder}/secret" in said
