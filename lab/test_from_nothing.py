"""The page *From nothing to production*: its commands, from wheels to a renewed certificate."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from tests.support import doc_pages, programs
from tests.support.clean_install import Environment
from tests.support.paths import ROOT
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S, wait_until

PAGE = doc_pages.DOCS / "from-nothing-to-production.md"
COMMANDS = [
    line
    for language, text in doc_pages.blocks(PAGE)
    if language == "sh"
    for line in text.split("\n")
    if line
]
READING_WPM, TYPING_WPM = 200, 40
"""Words in a minute; a typed word has five characters."""
MAX_COMMANDS, MAX_MINUTES = 15, 15
RENEWAL = ("fullchain.pem", "privkey.pem")
"""Files of the commands that replace a certificate, after the first audited call."""
RENEWING = [command for command in COMMANDS if any(name in command for name in RENEWAL)]
FIRST = [command for command in COMMANDS if command not in RENEWING]
IS_ROOT = os.getuid() == 0
GROUP = 65534 if IS_ROOT else os.getgid()
"""Only root can give files to a group of the service."""


def wheels(folder: Path) -> None:
    """Write the packages into a folder, as ``make dist`` does."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--no-print-directory", "dist", f"DIST={folder}", f"VENV={sys.prefix}"]
    subprocess.run(command, cwd=ROOT, check=True, env=environment, stdout=subprocess.DEVNULL)


def add_dependencies(environment: Path, folder: Path) -> None:
    """Let an environment see the packages of others that the tests have, and none of ours."""
    folder.mkdir()
    for place in Path(sysconfig.get_path("purelib")).iterdir():
        if "pexpolicy" not in place.name and place.suffix != ".pth":
            (folder / place.name).symlink_to(place)
    base = {"base": str(environment), "platbase": str(environment)}
    (Path(sysconfig.get_path("purelib", "venv", base)) / "others.pth").write_text(f"{folder}\n")


@contextmanager
def service(unit: Path, log: Path) -> Iterator[None]:
    """Run the program of a unit until it answers calls; end it afterwards."""
    found = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert found is not None
    with log.open("wb") as file:
        process = subprocess.Popen(found[1].split(), cwd="/", stderr=file, umask=0o077)
    try:
        answers = b"answers on https://"
        wait_until(lambda: process.poll() is not None or answers in log.read_bytes())
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_S) == 0, log.read_text()


class Machine:
    """A folder in place of the folders of a machine, without its accounts and systemd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self.password = ""
        self.output = ""
        for name in ("bin", "log", "units"):
            (folder / name).mkdir()

    def local(self, command: str) -> str:
        """Return a command of the page for this machine."""
        for old, new in {
            "/usr/local/bin": f"{self.folder}/bin",
            "sudo pexpolicy ": f"{self.folder}/bin/pexpolicy ",
            "sudo ": "",
            "python3 ": f"{sys.executable} ",
            " venv ": " venv --without-pip ",
            "/bin/pip ": "/bin/python -m pip ",
            "/opt/": f"{self.folder}/opt/",
            "/etc/pexpolicy": f"{self.folder}/etc",
            "/etc/systemd/system": f"{self.folder}/units",
            "root:pexpolicy-config": f"{os.getuid()}:{GROUP}",
            "-g pexpolicy-config": f"-g {GROUP}",
            "g+rX,o=": "g+rX,o=" if IS_ROOT else "go=",
            ":8000": f":{self.port}",
            "--user pexip": f"--silent --fail-with-body --user pexip:{self.password}",
        }.items():
            command = command.replace(old, new)
        return command

    def run(self, command: str) -> str:
        """Run a command of the page and return its output; fail if it fails."""
        environment = Environment(self.folder / "opt/pexpolicy")
        self.output = environment.run(self.local(command), self.folder)
        return self.output

    def run_until_it_succeeds(self, command: str) -> str:
        """Run a command again while it fails, and return all output."""
        return self.run(f"until {command}; do sleep 0.1; done")

    def configured(self) -> None:
        """Read the password that was printed, and take free ports and a folder for logs."""
        found = re.search(r"Password +(\S+)", self.output)
        assert found is not None
        self.password = found[1]
        config = self.folder / "etc/config.toml"
        text = config.read_text()
        for old, new in {
            "port = 8000": f"port = {self.port}",
            "port = 9107": f"port = {self.admin_port}",
            '"0.0.0.0"': '"127.0.0.1"',
            "/var/log/pexpolicy": f"{self.folder}/log",
        }.items():
            assert old in text
            text = text.replace(old, new)
        config.write_text(text)

    def renew(self) -> None:
        """Write a pair of another authority, the only one that calls trust from then on."""
        authority = trustme.CA()
        issued = authority.issue_cert("policy.example.com")
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        (self.folder / RENEWAL[0]).write_bytes(chain)
        (self.folder / RENEWAL[1]).write_bytes(issued.private_key_pem.bytes())
        authority.cert_pem.write_to_path(str(self.folder / "etc/tls/ca.pem"))


def test_reading_and_typing_take_a_quarter_of_an_hour() -> None:
    typed = sum(len(command) / 5 for command in FIRST) / TYPING_WPM
    read = len(PAGE.read_text(encoding="utf-8").split()) / READING_WPM
    assert len(FIRST) <= MAX_COMMANDS
    assert typed + read < MAX_MINUTES


@programs.needs_compiled("python-ldap")
def test_the_commands_of_the_page_lead_to_an_audited_call(tmp_path: Path) -> None:
    wheels(tmp_path / "wheelhouse")
    machine = Machine(tmp_path)
    start = next(n for n, command in enumerate(FIRST) if "systemctl enable" in command)
    for command in FIRST[:start]:
        if "groupadd" in command:
            continue
        machine.run(command)
        if " venv " in command:
            (made,) = (tmp_path / "opt").iterdir()
            add_dependencies(made, tmp_path / "others")
        if " init " in command:
            machine.configured()
    place = machine.run(
        "/opt/pexpolicy/bin/python -c 'import pexpolicy; print(pexpolicy.__file__)'"
    )
    assert place.startswith(str(tmp_path / "opt"))

    unit = tmp_path / "units/pexpolicy.service"
    assert f"\nExecStart={tmp_path}/opt/pexpolicy/bin/pexpolicy serve" in unit.read_text()
    if shutil.which("systemd-analyze") is not None:
        assert machine.run(f"systemd-analyze verify {unit} 2>&1") == ""

    with service(unit, tmp_path / "log.txt"):
        *others, verifying = FIRST[start + 1 :]
        said = {command: machine.run(command) for command in others}
        said[verifying] = machine.run_until_it_succeeds(verifying)
        doctor, call, tail, verify = said.values()
        assert "0 errors" in doctor
        assert '"name":"Example room"' in call
        assert "service_configuration" in tail
        assert "2301" in tail
        assert "faults: 0" in verify
        (asked,) = (command for command in said if "curl" in command)

        machine.renew()
        for command in RENEWING:
            machine.run(command)
        answered = machine.run_until_it_succeeds(asked)
        assert '"name":"Example room"' in answered
