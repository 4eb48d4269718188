"""The README: its examples as a reader pastes them."""

import subprocess
import sys
from pathlib import Path

from tests.support import paths

PAGE = (paths.ROOT / "plugins" / "sql" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return [part.partition("\n```")[0] for part in PAGE.split(f"```{language}\n")[1:]]


def test_the_examples_work_as_pasted(tmp_path: Path) -> None:
    first, by_key = blocks("toml")
    source = first[: first.index("[plugins")]
    (commands,) = blocks("sh")
    (tmp_path / "config.toml").write_text(source)
    (tmp_path / "rooms.csv").write_text(
        "aliases,name,pin,valid_until\nClinic@Example.com,Clinic,0482,\nold,Old,,2020-01-01\n"
    )
    (tmp_path / "devices.csv").write_text("alias,username,password\ndesk@example.com,desk,horse\n")
    command = Path(sys.executable).parent / "pexpolicy"

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for line in commands.splitlines():
        run(*line.split()[1:])
    (tmp_path / "config.toml").write_text(source + by_key)
    assert "valid" in run("check")
    request = "/policy/v1/service/configuration?local_alias="
    assert '"name":"Clinic"' in run("explain", f"{request}sip%3Aclinic@example.com")
    assert '"decided_by":"default"' in run("explain", f"{request}old")
