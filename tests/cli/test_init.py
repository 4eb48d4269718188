"""``pexpolicy init``: every combination of answers is a configuration without a warning."""

import itertools
import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from pexpolicy.access.certificates import CertificateFiles
from pexpolicy.cli.doctor import verify_chain
from pexpolicy.cli.main import main
from pexpolicy.config.loader import load
from pexpolicy.plugins.discovery import config_schema, installed
from tests.support.server_process import free_port

NODES = ("--node", "10.44.0.0/16", "--node", "2001:db8::/32,10.45.1.7")
TLS = ("--test-certificate", "policy.example.com")
OPTIONS: tuple[tuple[tuple[str, ...], ...], ...] = (((), NODES), ((), TLS), ((), ("--systemd",)))
COMBINATIONS = [*itertools.product(*OPTIONS)]


def invoked(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=typed, catch_exceptions=False)


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pexpolicy.config.secrets.PasswordHash.create.__func__.__defaults__", (10,))


@pytest.fixture
def _one_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the schema once: that takes three quarters of the time of the commands."""
    monkeypatch.setattr("pexpolicy.cli.init.config_schema", lambda _: _schema())


@cache
def _schema() -> dict[str, Any]:
    return dict(config_schema(installed()))


def with_free_ports(config: Path) -> Path:
    """Replace the ports, which other programs of this machine may use."""
    text = config.read_text()
    for port in ("port = 8000", "port = 9107"):
        text = text.replace(port, f"port = {free_port()}")
    config.write_text(text)
    return config


@pytest.mark.usefixtures("_one_schema")
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: " ".join(sum(o, ())) or "defaults")
def test_each_combination_passes_the_strict_check(
    options: tuple[tuple[str, ...], ...], tmp_path: Path
) -> None:
    made = invoked("init", "--yes", str(tmp_path / "new"), *itertools.chain(*options))
    assert made.exit_code == 0, made.output
    config = tmp_path / "new" / "config.toml"
    checked = invoked("check", "--strict", str(config))
    assert (checked.exit_code, checked.stderr) == (0, "")
    healthy = invoked("doctor", "--config", str(with_free_ports(config)), "--json")
    assert healthy.exit_code == 0, healthy.output
    states = {finding["subject"]: finding["state"] for finding in json.loads(healthy.output)}
    assert {states[name] for name in ("configuration", "ports")} == {"ok"}
    assert "file modes" not in states
    schema = json.loads((config.parent / "config.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(tomllib.loads(config.read_text()))


def test_the_questions_lead_to_the_answers(tmp_path: Path) -> None:
    typed = "10.44.0.0/17,10.1.2.3\npolicy.example.com\ny\n"
    made = invoked("init", str(tmp_path), typed=typed)
    assert made.exit_code == 0, made.output
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    assert config["access"]["networks"] == ["10.44.0.0/17", "10.1.2.3/32", "127.0.0.1/32"]
    assert config["auth"]["user"] == "pexip"
    assert config["tls"] == {"certificate": "tls/certificate.pem", "key": "tls/key.pem"}
    assert config["audit"]["path"] == "/var/log/pexpolicy/audit.jsonl"
    assert "console" not in config
    unit = (tmp_path / "pexpolicy.service").read_text()
    assert f"pexpolicy serve --config {tmp_path}/config.toml" in unit
    assert "SupplementaryGroups=pexpolicy-config\nConfigurationDirectory=pexpolicy\n" in unit
    console = (tmp_path / "pexpolicy-console.service").read_text()
    assert f"pexpolicy console --config {tmp_path}/config.toml" in console
    assert "chmod -R g+rX,o= " in made.output


@pytest.mark.parametrize(
    ("variable", "link", "zone"),
    [("CET-1CEST", "../zoneinfo/Europe/Oslo", "Europe/Oslo"), (":Asia/Tokyo", "x", "Asia/Tokyo")],
)
def test_the_zone_of_the_machine_is_written(
    variable: str, link: str, zone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", variable)
    monkeypatch.setattr("pexpolicy.cli.init.LOCALTIME", tmp_path / "localtime")
    (tmp_path / "localtime").symlink_to(link)
    assert invoked("init", "--yes", str(tmp_path / "new")).exit_code == 0
    assert f'\nzone = "{zone}" ' in (tmp_path / "new" / "config.toml").read_text()


def test_a_wrong_network_is_asked_for_again(tmp_path: Path) -> None:
    made = invoked("init", str(tmp_path), typed="10.1.2.3/16\n\n\n\n\n\n\n\n\n")
    assert "has host bits set" in made.output
    assert made.exit_code == 0, made.output


def test_nothing_is_written_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    made = invoked("init", "--yes", str(tmp_path))
    assert (made.exit_code, [path.name for path in tmp_path.iterdir()]) == (1, ["config.toml"])
    assert "config.toml: File exists; nothing was written" in made.stderr
    assert (tmp_path / "config.toml").read_text() == "mine"


@pytest.mark.parametrize("name", ["rooms.csv", "tls"])
def test_a_file_in_the_way_leaves_nothing_of_the_others(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("missing/file")
    made = invoked("init", "--yes", str(tmp_path), *TLS)
    assert (made.exit_code, [path.name for path in tmp_path.iterdir()]) == (1, [name])


def test_the_unit_quotes_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / 'a b"%h$X'
    made = invoked("init", "--yes", str(folder), "--systemd")
    assert made.exit_code == 0, made.output
    unit = (folder / "pexpolicy.service").read_text()
    assert f'serve --config "{tmp_path}/a b\\"%%h$$X/config.toml"\n' in unit


def test_without_answers_nothing_is_written(tmp_path: Path) -> None:
    made = invoked("init", str(tmp_path))
    assert "--yes asks nothing" in made.stderr
    assert (made.exit_code, list(tmp_path.iterdir())) == (1, [])


def test_a_client_that_trusts_the_ca_accepts_the_certificate(tmp_path: Path) -> None:
    invoked("init", "--yes", str(tmp_path), *TLS)
    settings = load(tmp_path / "config.toml")
    assert settings.tls is not None
    files = CertificateFiles.of(settings.tls, tmp_path)
    assert verify_chain(files, tmp_path / "tls/ca.pem") == ""
    assert "unable to get local issuer" in verify_chain(files, None)


HOME = "nobody-of-this-name/policy"


@pytest.mark.parametrize(
    ("arguments", "typed", "text"),
    [
        (("new", "--yes", "--test-certificate", "https://x"), "", "is not a host name"),
        (("new", "--yes", "--test-certificate", "b\u00f6se.example"), "", "is not a host name"),
        (("new", "--yes", "--node", "10.1.2.3/16"), "", "has host bits set"),
        (("new.toml", "--yes"), "", "is not the name of a folder"),
        (("x\nUser=root", "--yes", "--systemd"), "", "is not the name of a folder"),
        (("\x1b[2J", "--yes", "--systemd"), "", "is not the name of a folder"),
        *(
            ((f"{home}/{HOME}", "--yes", "--systemd"), "", "a service cannot read")
            for home in ("/home", "/root", "/run/user")
        ),
    ],
)
def test_wrong_options_and_answers_are_refused(
    arguments: tuple[str, ...], typed: str, text: str, tmp_path: Path
) -> None:
    folder, *options = arguments
    made = invoked("init", str(tmp_path / folder), *options, typed=typed)
    assert (made.exit_code, [*tmp_path.iterdir()], Path(folder).exists()) == (2, [], False)
    assert text in made.stderr
    assert not {"\x1b", "\nUser="} & set(made.stderr)


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    made = invoked("init", "--yes", str(tmp_path), "--test-certificate", "2001:db8::1")
    assert "https://[2001:db8::1]:8000\n" in made.output
    password = made.output.partition("Password   ")[2].partition(" ")[0]
    assert len(password) == 24
    assert password not in (tmp_path / "config.toml").read_text()
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in paths}
    private = {name for name, mode in modes.items() if mode == 0o600}
    assert private == {"config.toml", "rooms.csv", "audit-key.pem", "tls/key.pem"}
    assert set(modes.values()) == {0o600, 0o644}
