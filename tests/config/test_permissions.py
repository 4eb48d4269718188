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
from pexpolicy.config import files
from pexpolicy.config.files import read_file, why_unusable
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
CONFIG = """
[auth]
user = "a"
password_file = "secret"
[plugins.webhook.settings]
url = "https://events.example.com"
token_file = "secret"
spool = "{spool}"
"""
USERS = ["DynamicUser=yes\nSupplementaryGroups=daemon", "User=nobody\nGroup=daemon", "User=daemon"]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the group daemon, which is 1; folders of pytest are root's alone."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        monkeypatch.setattr(files, "UNITS", (path / "units",))
        (path / "units" / "pexpolicy.service.d").mkdir(parents=True)
        (path / "secret").write_text("a-long-secret-of-many-letters")
        (path / "config.toml").write_text(CONFIG.format(spool="/var/lib/pexpolicy/events"))
        for one, mode in ((path, 0o750), (path / "config.toml", 0o640)):
            os.chown(one, 0, 1)
            one.chmod(mode)
        yield path


def checked(folder: Path, *options: str) -> tuple[int, list[str]]:
    config = ["-c", str(folder / "config.toml"), "--json", *options]
    done = CliRunner().invoke(main, ["check", *config], catch_exceptions=False)
    found = json.loads(done.stdout)
    remarks = found["errors"] + found["warnings"]
    return done.exit_code, [f"{one['key']}: {one['message']}" for one in remarks]


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("user", USERS)
def test_following_the_advice_lets_the_service_read_a_secret_and_no_other_user(
    folder: Path, user: str, mode: int
) -> None:
    unit = f"[Service]\nExecStart=/x serve -c {folder}/config.toml\nStateDirectory=pexpolicy\n"
    (folder / "units" / "pexpolicy.service").write_text(unit)
    console = (ROOT / "deploy/systemd/pexpolicy-console.service").read_text()
    other = console.replace("/etc/pexpolicy", str(folder))
    (folder / "units" / "pexpolicy-console.service").write_text(other)
    (folder / "units" / "pexpolicy.service.d" / "user.conf").write_text(user)
    (folder / "secret").chmod(mode)
    code, said = checked(folder)
    assert code == (78 if mode == 0o600 else 0), said
    advice = next(text for text in said if "/secret" in text).partition(" by ")[2].partition(": ")
    assert "61184" not in str(said)
    subprocess.run(["/bin/sh", "-c", advice[2]], check=True)
    assert (folder / "secret").stat().st_mode & 0o007 == 0
    code, said = checked(folder)
    assert (code, [text for text in said if "/secret" in text]) == (0, [])


def test_a_place_that_the_service_cannot_write_to_is_an_error(folder: Path) -> None:
    os.chown(folder / "secret", 0, 1)
    (folder / "config.toml").write_text(CONFIG.format(spool="events"))
    code, (said, *_) = checked(folder, "--as", "daemon")
    assert (code, said.partition(": ")[0]) == (78, "plugins.webhook.settings.spool")
    (folder / "events").mkdir()
    os.chown(folder / "events", 1, 1)
    assert checked(folder, "--as", "daemon")[0] == 0


@pytest.mark.parametrize("is_link", [False, True])
def test_no_folder_of_others_is_opened_for_a_file_in_it(
    folder: Path, tmp_path: Path, is_link: bool
) -> None:
    outside, secret = tmp_path / "secret", folder / "secret"
    secret.rename(outside)
    if is_link:
        secret.symlink_to(outside)
    else:
        text = CONFIG.format(spool="/var/lib/pexpolicy/events")
        (folder / "config.toml").write_text(text.replace('"secret"', f'"{outside}"'))
    _, said = checked(folder, "--as", "daemon")
    advice = [text for text in said if "cannot be read by daemon" in text]
    assert advice, said
    assert not any(word in text for text in advice for word in ("chmod", "chgrp", "chown"))


def test_a_file_that_another_user_began_is_named_and_not_its_folder(folder: Path) -> None:
    os.chown(folder / "secret", 0, 1)
    (folder / "log").mkdir()
    (folder / "log" / "audit.jsonl").touch(0o600)
    os.chown(folder / "log", 1, 1)
    with (folder / "config.toml").open("a") as file:
        file.write('[audit]\npath = "log/audit.jsonl"\n')
    said = next(text for text in checked(folder, "--as", "daemon")[1] if "audit.path" in text)
    subprocess.run(["/bin/sh", "-c", said.rpartition(": ")[2]], check=True)
    assert not any("audit.path" in text for text in checked(folder, "--as", "daemon")[1])


# 65534 is each group of its own that a service with PrivateUsers=yes does not see.
@pytest.mark.parametrize("group", [1, 65534])
def test_the_server_gives_the_same_advice(folder: Path, group: int) -> None:
    os.chown(folder, 0, group)
    (folder / "secret").chmod(0o600)
    try:
        os.setegid(group)
        os.seteuid(61234)
        with pytest.raises(PermissionError) as error:
            read_file(folder / "secret")
        said = why_unusable(folder / "secret", error.value)
    finally:
        os.seteuid(0)
        os.setegid(0)
    os.chown(folder, 0, 1)  # as root sees it
    subprocess.run(["/bin/sh", "-c", said.rpartition(": ")[2]], check=True)
    found = (folder / "secret").stat()
    assert (found.st_gid, found.st_mode & 0o777) == (1, 0o640)
