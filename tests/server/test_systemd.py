"""What systemd is told."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexpolicy.server import process
from tests.server.test_reload import reloaded, written
from tests.support import live_server
from tests.support.waiting import HANG_S

WATCHDOG_US = 400_000


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(HANG_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", str(WATCHDOG_US))
        yield receiver


def told(notifications: socket.socket, wanted: str) -> str:
    """The next message that begins so; signs of life may come before it."""
    while True:
        message = notifications.recv(1024).decode()
        if message.startswith(wanted):
            return message
        assert message.startswith((process.ALIVE, process.READY)), message


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_systemd_is_notified_of_start_reload_life_and_end(
    tmp_path: Path, notifications: socket.socket, arguments: tuple[str, ...]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(written("first"))
    with live_server.running(config, *arguments) as server:
        told(notifications, process.READY)
        told(notifications, process.ALIVE)
        told(notifications, process.ALIVE)
        assert reloaded(config).done
        assert "MONOTONIC_USEC=" in told(notifications, "RELOADING=1")
        told(notifications, process.READY)
        os.kill(server.pid, signal.SIGTERM)
        told(notifications, process.STOPPING)


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    process.notify(process.READY)
    for address in ("/nowhere/at/all", "vsock:2:1234"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        process.notify(process.READY)
