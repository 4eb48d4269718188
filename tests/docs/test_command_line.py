"""What docs/operations.md shows of the command line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.support import paths

PAGE = (paths.ROOT / "docs" / "operations.md").read_text()
SECTION = PAGE.partition("## The command line\n")[2].partition("\n## ")[0]


def test_an_error_is_printed_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text("[server]\nprot = 8001\n")
    shown = SECTION.partition("```text\n")[2].partition("```")[0]
    assert CliRunner().invoke(main, ["check"]).stderr == shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_is_printed(shell: str) -> None:
    assert "`pexpolicy completion SHELL`" in SECTION
    done = CliRunner().invoke(main, ["completion", shell])
    assert (done.exit_code, "_pexpolicy_completion" in done.stdout) == (0, True)


@pytest.mark.parametrize("key", ["valid", "errors", "warnings", "line", "column"])
def test_each_key_of_the_json_is_there(key: str) -> None:
    config = str(paths.ROOT / "config.toml")
    assert f'"{key}"' in CliRunner().invoke(main, ["check", "--json", config]).stdout
    assert f"`{key}`" in SECTION
