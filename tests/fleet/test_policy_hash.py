"""The policy hash: what it covers, and that servers that decide alike have one."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from pexpolicy.audit.audit_log import audit_of
from pexpolicy.builder import policy_from
from pexpolicy.config.loader import load
from pexpolicy.config.settings import DECIDING, ConfigError, Document
from pexpolicy.fleet.policy_hash import KEY_NAME, own_token, prepare_state_dir

LOCAL = {
    *("server", "auth", "access", "tls", "limits", "admin", "console", "tracing", "log", "audit"),
    *("api", "events", "fleet", "shared", "bundle"),
}
"""Tables that say how one server runs."""
ROOMS = """
[plugins.rooms.settings]
csv = "rooms.csv"

[plugins.rooms.settings.pin]
derive = "sha256"
secret_file = "pin.key"
of = "name"
"""


UPSTREAM = """
[plugins.upstream.settings.targets.other]
url = "https://policy.example.com"
user = "pexip"
password_env = "UPSTREAM_PASSWORD"
"""


def test_each_table_decides_or_says_how_one_server_runs() -> None:
    assert {*DECIDING, *LOCAL} == Document.model_fields.keys()
    assert LOCAL.isdisjoint(DECIDING)


@pytest.fixture
def hash_of(tmp_path: Path) -> Hash:
    return Hash(tmp_path)


class Hash:
    """The policy hash of servers in folders of their own, with these files in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = 0

    def __call__(self, config: str = ROOMS, **files: str) -> str:
        self.servers += 1
        folder = self.folder / f"server-{self.servers}"
        folder.mkdir()
        given = {"rooms_csv": ROWS, "pin_key": "a secret of the site", "fleet_key": "f" * 32}
        for name, content in {**given, **files}.items():
            (folder / name.replace("_", ".")).write_text(content)
        path = folder / "config.toml"
        path.write_text(config)
        assert not prepare_state_dir(load(path))
        policy = policy_from(path)
        policy.close()
        return policy.policy_hash


ROWS = "aliases,name\nboard@example.com,Board\n"
FLEET = '[fleet]\nkey_file = "fleet.key"\n'


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (FLEET + ROOMS + '[audit]\ninstance = "policy-2"\n', {}),
        (FLEET + ROOMS + '[server]\nport = 8001\n[console]\nlabel = "Oslo"\n', {}),
        ("# A comment.\n" + FLEET + ROOMS, {}),
        ('[fleet]\nkey_file="fleet.key"' + ROOMS.replace(" = ", "="), {}),
    ],
)
def test_how_a_server_runs_and_how_its_file_is_written_are_not_in_it(
    hash_of: Hash, config: str, files: dict[str, str]
) -> None:
    assert hash_of(config, **files) == hash_of(FLEET + ROOMS)


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (FLEET + ROOMS, {"rooms_csv": ROWS + "sales@example.com,Sales\n"}),
        (FLEET + ROOMS, {"pin_key": "another secret of it"}),
        (FLEET + ROOMS, {"fleet_key": "g" * 32}),
        (FLEET + ROOMS + '[endpoints.service_configuration]\ndefault = "reject"\n', {}),
        (FLEET + ROOMS + "[infinity]\nmin_pin_length = 4\n", {}),
    ],
)
def test_what_decides_is_in_it(hash_of: Hash, config: str, files: dict[str, str]) -> None:
    assert hash_of(config, **files) != hash_of(FLEET + ROOMS)


def test_secrets_of_environment_variables_are_in_it(
    hash_of: Hash, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FLEET + UPSTREAM
    found = []
    for secret in ("one of 16 letters", "one of 16 letters", "another of sixteen"):
        monkeypatch.setenv("UPSTREAM_PASSWORD", secret)
        found.append(hash_of(config))
    assert found[0] == found[1] != found[2]


def test_without_a_key_of_the_fleet_each_server_has_its_own(hash_of: Hash) -> None:
    one, other = hash_of(ROOMS), hash_of(ROOMS)
    assert one != other
    # No secret, no key.
    plain = '[plugins.rooms.settings]\ncsv = "rooms.csv"\n'
    assert hash_of(plain) == hash_of(plain)
    key = hash_of.folder / "server-1/state" / KEY_NAME
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_secret_cannot_be_guessed_from_the_hash(hash_of: Hash) -> None:
    """With another key each guess gives another hash."""
    assert len({hash_of(FLEET + ROOMS, fleet_key=key * 32) for key in "abc"}) == 3


@pytest.mark.parametrize(
    ("written", "variable", "name"),
    [
        ("policy-1", "pod-1", "policy-1"),
        (None, "pod-1", "pod-1"),
        (None, "p" * 101, "p" * 100),
        (None, "", socket.gethostname()),
        (None, None, socket.gethostname()),
    ],
)
def test_the_name_of_a_server(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: str | None,
    variable: str | None,
    name: str,
) -> None:
    monkeypatch.delenv("PEXPOLICY_INSTANCE", raising=False)
    if variable is not None:
        monkeypatch.setenv("PEXPOLICY_INSTANCE", variable)
    path = tmp_path / "config.toml"
    path.write_text('[audit]\npath = "audit.jsonl"\n' + f'instance = "{written}"' * bool(written))
    settings = load(path)
    audit = audit_of(settings, print)
    audit.reloaded("", "")
    audit.close()
    line, _ = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert settings.instance == line["instance"] == name


def test_a_short_key_of_the_fleet_is_refused(hash_of: Hash) -> None:
    with pytest.raises(ConfigError, match=r"fleet\.key_file"):
        hash_of(FLEET + ROOMS, fleet_key="short")


def test_a_key_that_others_have_put_there_is_not_used(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    settings = load(config)
    settings.state_dir.mkdir()
    key = settings.state_dir / KEY_NAME
    (tmp_path / "known").write_text("known to others")
    key.symlink_to(tmp_path / "known")
    assert own_token(settings) == ""
    key.unlink()
    assert prepare_state_dir(settings) == ""
    assert own_token(settings) != ""
    if os.geteuid() == 0:
        os.chown(key, 61234, 61234)
        assert own_token(settings) == ""
        os.chown(settings.state_dir, 61234, 61234)  # a server of that user
        assert own_token(settings) != ""
