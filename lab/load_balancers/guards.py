"""The real HAProxy and NGINX with the files of ``deploy/``."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S

HAPROXY = ROOT / "deploy" / "haproxy" / "guard.cfg"
NGINX = ROOT / "deploy" / "nginx" / "guard.conf"

Guard = Callable[[Path, Sequence[int], str], AbstractContextManager[int]]
"""Starts one before servers on these ports, with "continue" or "reject" as its answer; gives its
own port. All that it writes goes into the folder; a ``ca.pem`` there means servers with TLS.
"""


@contextmanager
def haproxy(folder: Path, servers: Sequence[int], action: str = "continue") -> Iterator[int]:
    """HAProxy, with the switches that its file takes from the environment."""
    port = free_port()
    one, two, *others = (f"127.0.0.1:{server}" for server in servers)
    switches = {
        "GUARD_BIND": f"127.0.0.1:{port}",
        "POLICY_SERVER_1": one,
        "POLICY_SERVER_2": two,
        **dict.fromkeys(("ON_SERVICE", "ON_PARTICIPANT", "ON_REGISTRATION"), action),
    }
    text = HAPROXY.read_text().replace("/etc/haproxy/policy-ca.pem", f"{folder}/ca.pem")
    (line,) = re.findall(r"^ *server two .*$", text, re.MULTILINE)
    further = (
        line.replace("two", f"server-{number}").replace("${POLICY_SERVER_2}", address)
        for number, address in enumerate(others, 3)
    )
    text = text.replace(line, "\n".join((line, *further)))
    (folder / "guard.cfg").write_text(text)
    if not (folder / "ca.pem").exists():
        switches["POLICY_TLS"] = "no-ssl"
    with _listening(["haproxy", "-db", "-f", str(folder / "guard.cfg")], folder, port, switches):
        yield port


@contextmanager
def nginx(folder: Path, servers: Sequence[int], action: str = "continue") -> Iterator[int]:
    """NGINX, with the file as it has to be edited for these servers."""
    port = free_port()
    one, two = (f"127.0.0.1:{server}" for server in servers)
    text = NGINX.read_text()
    if not (folder / "ca.pem").exists():
        text = re.sub("proxy_ssl_.*;", "", text.replace("https://policy", "http://policy"))
    for written, instead in {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "192.0.2.11:8000": one,
        "192.0.2.12:8000": two,
        "/var/log/nginx/": f"{folder}/",
        " continue;": f" {action};",
    }.items():
        assert written in text
        text = text.replace(written, instead)
    text = text.replace("/etc/nginx/policy-ca.pem", f"{folder}/ca.pem")
    (folder / "guard.conf").write_text(text)
    whole = folder / "nginx.conf"
    whole.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr warn;\n"
        f"events {{ worker_connections 2048; }}\n"
        f"http {{ include {folder}/guard.conf; }}\n"
    )
    # Only its user can write to the folder of a test, so workers must not run as another user.
    options = ["-e", "stderr", *(["-g", "user root;"] if os.geteuid() == 0 else [])]
    with _listening(["nginx", "-c", str(whole), *options], folder, port, {}):
        yield port


GUARDS: dict[str, Guard] = {"haproxy": haproxy, "nginx": nginx}


def installed(name: str) -> bool:
    """Whether this machine has the program."""
    return shutil.which(name, path=_path()) is not None


@contextmanager
def _listening(
    command: Sequence[str], folder: Path, port: int, switches: dict[str, str]
) -> Iterator[None]:
    with (
        (folder / "guard.log").open("ab") as log,
        subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": _path(), **switches},
        ) as program,
    ):
        try:
            _until_listening(program, port, folder / "guard.log")
            yield
        finally:
            program.terminate()


def _until_listening(program: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline and program.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the guard did not start:\n" + log.read_text())


def _path() -> str:
    """Where programs are looked for: daemons lie in places that a user's path may not name."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
