"""Test of the Dockerfile without Docker: build, serve, check health and stop.

The base image is replaced by this machine's Python, absolute paths by a temporary folder, the
address by loopback, and the port by a free one. The instructions are read from the Dockerfile, so a
wrong command fails here. The base image itself and ``useradd`` are not tested.
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
PASSWORD = "a password for a minute"  # noqa: S105 - it protects a server on loopback only
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0


@dataclass
class Stage:
    """One stage of the Dockerfile."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    """The WORKDIR, COPY and RUN instructions, in order."""
    environment: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    """ENTRYPOINT, CMD and HEALTHCHECK in exec form."""
    user: int | None = None


def read_stages(dockerfile: str) -> list[Stage]:
    """Parse the stages of a Dockerfile; raise ``ValueError`` for an unknown instruction."""
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
            message = f"{keyword}: this test does not support the instruction"
            raise ValueError(message)
    return stages


class ImageRoot:
    """A temporary folder used as the root of the image, and the replacements for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user: int | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def path(self, absolute: str) -> Path:
        """Return the local path of a path in the image."""
        return self.root / absolute.lstrip("/")

    def local(self, text: str) -> str:
        """Replace paths, address and port of the image in a command or a value."""
        for place in ("/opt/pexpolicy", "/etc/pexpolicy"):
            text = text.replace(place, str(self.path(place)))
        return text.replace("0.0.0.0", "127.0.0.1").replace("8000", str(self.port))  # noqa: S104

    def environment(self, stage: Stage) -> dict[str, str]:
        """Return the variables of the image, without those of this machine."""
        own = {name: self.local(value) for name, value in stage.environment.items()}
        return {**own, "PEXPOLICY_PASSWORD": PASSWORD}


def build(stage: Stage, image: ImageRoot) -> None:
    """Run the build stage."""
    folder = image.root
    for keyword, rest in stage.steps:
        print(f"  {keyword} {rest}", flush=True)
        if keyword == "WORKDIR":
            folder = image.path(rest)
            folder.mkdir(parents=True)
        elif keyword == "COPY":
            source, target = rest.split()
            copy_context(source, folder / target)
        else:
            environment = {**os.environ, "PYTHON": os.environ.get("PYTHON", sys.executable)}
            subprocess.run(image.local(rest), shell=True, check=True, cwd=folder, env=environment)  # noqa: S602


def copy_context(source: str, target: Path) -> None:
    """Copy what .dockerignore allows: the names after an exclamation mark, without caches."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    ignore = shutil.ignore_patterns("__pycache__", "tests")
    for name in allowed if source == "." else [source]:
        if name not in allowed:
            message = f"COPY {source}: excluded by .dockerignore"
            raise ValueError(message)
        inner = target / name if source == "." else target
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, inner, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copy2(ROOT / name, inner)


def run(stage: Stage, image: ImageRoot, *command: str) -> subprocess.Popen[str]:
    """Start a command with the environment, user and PATH of the image."""
    environment = image.environment(stage)
    arguments = [image.local(argument) for argument in command]
    program = shutil.which(arguments[0], path=environment["PATH"])
    return subprocess.Popen(
        [program or arguments[0], *arguments[1:]],
        cwd="/",
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        user=image.user,
    )


def switch_user(stage: Stage, image: ImageRoot) -> None:
    """Run further commands as the image's user, if this machine allows it."""
    image.user = stage.user if os.geteuid() == 0 else None
    try:
        output(stage, image, "python", "-c", "")
    except PermissionError:
        print(f"  user {image.user} may not start this Python (it lies in a private folder)")
        image.user = None
    print(f"running as {'yourself' if image.user is None else f'user {image.user}'}:", flush=True)


def output(stage: Stage, image: ImageRoot, *command: str) -> str:
    """Return the output of a command; raise ``CalledProcessError`` if it fails."""
    with run(stage, image, *command) as started:
        text, _ = started.communicate(timeout=30)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    return text


def healthy(stage: Stage, image: ImageRoot) -> bool:
    """Return whether the image's own health check passes."""
    with run(stage, image, *stage.commands["HEALTHCHECK"]) as check:
        return check.wait(timeout=10) == 0


def status(image: ImageRoot, *, password: str | None) -> int:
    """Return the status of one policy call."""
    headers = {}
    if password is not None:
        token = base64.b64encode(f"pexip:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    connection = http.client.HTTPConnection("127.0.0.1", image.port, timeout=5)
    try:
        connection.request("GET", "/policy/v1/registrations/bob@example.com", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def expect(what: str, *, holds: bool) -> None:
    """Print one result; exit with code 1 if it does not hold."""
    print(f"  {'ok' if holds else 'FAILED'}: {what}", flush=True)
    if not holds:
        sys.exit(1)


def serve(stage: Stage, image: ImageRoot) -> None:
    """Start the image's command, send calls, and stop it as an engine would."""
    expect("the health check fails while nothing serves", holds=not healthy(stage, image))
    server = run(stage, image, *stage.commands["ENTRYPOINT"], *stage.commands["CMD"])
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        passed = healthy(stage, image)
        while not passed and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            passed = healthy(stage, image)
        expect("the health check passes once it serves", holds=passed)
        expect("a call with credentials gets 200", holds=status(image, password=PASSWORD) == 200)
        expect("a call without credentials gets 401", holds=status(image, password=None) == 401)
        server.send_signal(signal.SIGTERM)
        lines, _ = server.communicate(timeout=STOP_TIMEOUT_S)
        expect("SIGTERM ends it with exit code 0", holds=server.returncode == 0)
        events = [json.loads(line)["event"] for line in lines.splitlines()]
        expect("each call left a line of JSON", holds=events == ["decision", "refused", "end"])
    finally:
        if server.poll() is None:
            server.kill()


def main() -> None:
    """Test the Dockerfile of this repository."""
    building, final = read_stages((ROOT / "Dockerfile").read_text())
    with tempfile.TemporaryDirectory() as folder:
        image = ImageRoot(Path(folder))
        image.root.chmod(0o755)
        print("building:")
        build(building, image)
        config = image.path("/etc/pexpolicy/config.toml")
        config.parent.mkdir(parents=True)
        shutil.copy2(ROOT / "deploy/config.toml", config)
        switch_user(final, image)
        for name in sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")):
            output(final, image, "python", "-c", f"import pexpolicy_{name.replace('-', '_')}")
            expect(f"the package pexpolicy-{name} is in", holds=True)
        output(final, image, "pexpolicy", "console", "--help")
        expect("the console is in", holds=True)
        output(final, image, "python", "-c", "import uvloop")
        expect("uvloop is in", holds=True)
        serve(final, image)
    print("the image's recipe works")


if __name__ == "__main__":
    main()
