"""`pexpolicy healthcheck`: where it asks, and what it says of what answers."""

import socket
import threading
from pathlib import Path

import pytest

from tests.cli.test_main import invoked, written
from tests.support import certificates, live_server


def test_a_healthy_server_is_distinguished_from_none(running_server: live_server.Running) -> None:
    assert invoked("healthcheck", "--url", running_server.url).exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
    gone = invoked("healthcheck", "--url", nobody)
    assert gone.exit_code == 1
    assert gone.stderr == f"{nobody}: nothing listens there\n"
    assert invoked("healthcheck", "--url", f"{running_server.url}/").exit_code == 0
    elsewhere = invoked("healthcheck", "--url", f"{running_server.url}/nowhere")
    assert elsewhere.exit_code == 1
    assert elsewhere.stderr == f"{running_server.url}/nowhere: it answers 404\n"


@pytest.mark.parametrize("command", ["healthcheck", "status"])
@pytest.mark.parametrize("url", ["nonsense", "ftp://a", "http://", "http://a:x", "http://a b", ""])
def test_what_is_no_url_is_wrong_usage(command: str, url: str) -> None:
    result = invoked(command, "--url", url)
    assert result.exit_code == 2
    assert "is not the URL of a server" in result.stderr


def test_health_is_asked_where_the_configuration_says(
    running_server: live_server.Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (calls, admin) = (url.rpartition(":")[2] for url in (running_server.url, running_server.admin))
    for text in (
        f"[server]\nport = {calls}\n",
        f'[server]\nhost = "0.0.0.0"\nport = {calls}\nallow_anonymous = true\n',
        f'[access]\nnetworks = ["192.0.2.0/24"]\n[admin]\nport = {admin}\n[server]\nport = 1\n',
        f'[tls]\ncertificate = "c"\nkey = "k"\n[admin]\nport = {admin}\n[server]\nport = 1\n',
        f'[server]\nport = {calls}\n[auth]\nuser = "a"\npassword_env = "TEST_NOT_THERE"\n',
    ):
        assert invoked("healthcheck", "--config", written(tmp_path, text)).exit_code == 0, text
    config = written(tmp_path, "[server]\nport = 1\n")
    result = invoked("healthcheck", "--config", config)
    assert result.exit_code == 1
    assert "http://127.0.0.1:1: " in result.stderr
    chosen = invoked("healthcheck", "--config", config, "--url", running_server.url)
    assert chosen.exit_code == 0
    assert invoked("healthcheck", "--config", str(tmp_path / "none.toml")).exit_code == 78
    # An image names a configuration that its health check need not have.
    monkeypatch.setenv("PEXPOLICY_CONFIG", str(tmp_path / "none.toml"))
    assert invoked("healthcheck").exit_code in {0, 1}


def test_health_is_asked_by_tls_where_operators_have_no_listener(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    tls = "".join(f'{key} = "{value}"\n' for key, value in certificates.tls(tmp_path).items())
    (tmp_path / "given.toml").write_text(f"[tls]\n{tls}[admin]\nenabled = false\n")
    config = live_server.with_audit(tmp_path / "given.toml", tmp_path)
    with live_server.running(config) as server:
        config.write_text(f"{config.read_text()}[server]\nport = {server.port}\n")
        result = invoked("healthcheck", "--config", str(config))
        assert result.exit_code == 0, result.stderr
        stranger = invoked("healthcheck", "--url", f"https://127.0.0.1:{server.port}")
        plain = invoked("healthcheck", "--url", f"http://127.0.0.1:{server.port}")
    assert "its certificate is not trusted: " in stranger.stderr
    assert "with [tls] the URL begins with https://" in plain.stderr


def test_a_connection_that_is_refused_before_tls_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shut() -> None:
            with listener.accept()[0] as connection:
                connection.recv(10_000)

        thread = threading.Thread(target=shut)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        result = invoked("healthcheck", "--url", url)
        thread.join()
    assert result.exit_code == 1
    assert "it closed the connection: there is no TLS, it wants a client" in result.stderr
    assert "[access] networks" in result.stderr


def test_what_answers_with_something_else_is_reported(tmp_path: Path) -> None:
    for said, text in (
        (b"SSH-2.0-x\r\n", "the reply is not HTTP"),
        (b"", "the reply is not HTTP; with [tls] the URL begins with https:"),
        (b"HTTP/1.1 503 x\r\nContent-Length: 9\r\n\r\ndraining\n", "it answers 503: draining"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

            def answer(listener: socket.socket = listener, said: bytes = said) -> None:
                with listener.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            result = invoked("healthcheck", "--url", url)
            thread.join()
        assert result.exit_code == 1
        assert f"{url}: {text}" in result.stderr
