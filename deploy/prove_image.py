"""Carry out the Dockerfile without Docker: build as it says, then serve, check health and stop.

What is replaced: the base image by this machine's Python, the absolute paths by a temporary folder,
the address by loopback, the port by a free one. The instructions are read from the Dockerfile, so a
command that is wrong there fails here. What stays unproved: the base image itself and ``useradd``.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "a password for a minute"  # noqa: S105 - it opens a server that nobody else sees
START_LIMIT = 15.0
STOP_LIMIT = 10.0


@dataclass
class Stage:
    """What one stage of the Dockerfile amounts to."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    """The WORKDIR, COPY and RUN instructions, in order."""
    environment: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    """ENTRYPOINT, CMD and HEALTHCHECK, each in its exec form."""
    user: int | None = None


def read_stages(dockerfile: str) -> list[Stage]:
    """The stages of a Dockerfile; raises ``ValueError`` for an instruction that is unknown here."""
    lines = (line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for instruction in "\n".join(lines).replace("\\\n", " ").splitlines():
        keyword, _, rest = instruction.strip().partition(" ")
        if keyword == "FROM":
            stages.append(Stage())
        elif keyword in {"WORKDIR", "COPY", "RUN"}:
            stages[-1].steps.append((keyword, rest))
        elif keyword == "ENV":
            name, _, value = rest.partition("=")
            stages[-1].environment[name] = value
        elif keyword in {"ENTRYPOINT", "CMD", "HEALTHCHECK"}:
            stages[-1].commands[keyword] = json.loads(rest[rest.index("[") :])
        elif keyword == "USER":
            stages[-1].user = int(rest.partition(":")[0])
        elif keyword not in {"", "ARG", "EXPOSE"}:
            message = f"{keyword}: this proof does not know the instruction"
            raise ValueError(message)
    return stages


class Stand:
    """A temporary folder that stands for the root of the image, and what is replaced for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user: int | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def path(self, absolute: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / absolute.lstrip("/")

    def local(self, text: str) -> str:
        """A command or a value of the image, as it reads here."""
        for place in ("/opt/pexpolicy", "/etc/pexpolicy"):
            text = text.replace(place, str(self.path(place)))
        return text.replace("0.0.0.0", "127.0.0.1").replace("8000", str(self.port))  # noqa: S104

    def environment(self, stage: Stage) -> dict[str, str]:
        """The variables of the image, and nothing of this machine's."""
        own = {name: self.local(value) for name, value in stage.environment.items()}
        return {**own, "PEXPOLICY_PASSWORD": PASSWORD}


def build(stage: Stage, stand: Stand) -> None:
    """Carry out the building stage."""
    folder = stand.root
    for keyword, rest in stage.steps:
        print(f"  {keyword} {rest}", flush=True)
        if keyword == "WORKDIR":
            folder = stand.path(rest)
            folder.mkdir(parents=True)
        elif keyword == "COPY":
            source, target = rest.split()
            copy_context(source, folder / target)
        else:
            environment = {**os.environ, "PYTHON": os.environ.get("PYTHON", sys.executable)}
            subprocess.run(stand.local(rest), shell=True, check=True, cwd=folder, env=environment)  # noqa: S602


def copy_context(source: str, target: Path) -> None:
    """Copy what .dockerignore lets through: the names after an exclamation mark, without caches."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    ignore = shutil.ignore_patterns("__pycache__", "tests")
    for name in allowed if source == "." else [source]:
        if name not in allowed:
            message = f"COPY {source}: .dockerignore keeps it out"
            raise ValueError(message)
        inner = target / name if source == "." else target
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, inner, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copy2(ROOT / name, inner)


def run(stage: Stage, stand: Stand, *command: str) -> subprocess.Popen[str]:
    """Start a command as the image would: its environment, its user, its PATH."""
    environment = stand.environment(stage)
    arguments = [stand.local(argument) for argument in command]
    program = shutil.which(arguments[0], path=environment["PATH"])
    return subprocess.Popen(
        [program or arguments[0], *arguments[1:]],
        cwd="/",
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        user=stand.user,
    )


def take_user(stage: Stage, stand: Stand) -> None:
    """Become the image's user from here on, where this machine allows it."""
    stand.user = stage.user if os.geteuid() == 0 else None
    try:
        output(stage, stand, "python", "-c", "")
    except PermissionError:
        print(f"  user {stand.user} may not start this Python (it lies in a private folder)")
        stand.user = None
    print(f"running as {'yourself' if stand.user is None else f'user {stand.user}'}:", flush=True)


def output(stage: Stage, stand: Stand, *command: str) -> str:
    """What a command prints; raises ``CalledProcessError`` when it fails."""
    with run(stage, stand, *command) as started:
        text, _ = started.communicate(timeout=30)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    return text


def healthy(stage: Stage, stand: Stand) -> bool:
    """Whether the image's own health check passes."""
    with run(stage, stand, *stage.commands["HEALTHCHECK"]) as check:
        return check.wait(timeout=10) == 0


def status(stand: Stand, *, password: str | None) -> int:
    """The status of one policy call."""
    headers = {}
    if password is not None:
        token = base64.b64encode(f"pexip:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    connection = http.client.HTTPConnection("127.0.0.1", stand.port, timeout=5)
    try:
        connection.request("GET", "/policy/v1/registrations/bob@example.com", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def expect(what: str, *, holds: bool) -> None:
    """Print one finding; leave with exit code 1 when it does not hold."""
    print(f"  {'ok' if holds else 'FAILED'}: {what}", flush=True)
    if not holds:
        sys.exit(1)


def serve(stage: Stage, stand: Stand) -> None:
    """Start the image's command, ask it, and stop it as an engine would."""
    expect("the health check fails while nothing serves", holds=not healthy(stage, stand))
    server = run(stage, stand, *stage.commands["ENTRYPOINT"], *stage.commands["CMD"])
    try:
        deadline = time.monotonic() + START_LIMIT
        passed = healthy(stage, stand)
        while not passed and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            passed = healthy(stage, stand)
        expect("the health check passes once it serves", holds=passed)
        expect("a call with credentials gets 200", holds=status(stand, password=PASSWORD) == 200)
        expect("a call without credentials gets 401", holds=status(stand, password=None) == 401)
        server.send_signal(signal.SIGTERM)
        lines, _ = server.communicate(timeout=STOP_LIMIT)
        expect("SIGTERM ends it with exit code 0", holds=server.returncode == 0)
        expect(
            "each call left a line of JSON",
            holds=len(list(map(json.loads, lines.splitlines()))) == 2,
        )
    finally:
        if server.poll() is None:
            server.kill()


def main() -> None:
    """Prove the Dockerfile of this repository."""
    building, final = read_stages((ROOT / "Dockerfile").read_text())
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder))
        stand.root.chmod(0o755)
        print("building:")
        build(building, stand)
        config = stand.path("/etc/pexpolicy/config.toml")
        config.parent.mkdir(parents=True)
        shutil.copy2(ROOT / "deploy/config.toml", config)
        take_user(final, stand)
        listed = output(final, stand, "pexpolicy", "plugins", "--json")
        for plugin in sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")):
            expect(f"the plugin {plugin} is in", holds=f'"{plugin}"' in listed)
        output(final, stand, "python", "-c", "import uvloop")
        expect("uvloop is in", holds=True)
        serve(final, stand)
    print("the image's recipe works")


if __name__ == "__main__":
    main()
