"""The help of the commands, their examples, and the completion of shells."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import COMMANDS, GROUPS, main
from tests.support.waiting import HANG_S

ROOT = click.Context(main, info_name="pexpolicy")


def walked(group: click.Group, ctx: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        inner = click.Context(command, ctx, name)
        yield command, inner
        if isinstance(command, click.Group):
            yield from walked(command, inner)


EVERY = {ctx.command_path: (command, ctx) for command, ctx in walked(main, ROOT)}


def examples_of(command: click.Command) -> list[str]:
    _, _, text = (command.epilog or "").partition("\b\nExamples:\n")
    return [line.strip() for line in text.splitlines()]


def test_each_command_is_in_one_group_of_the_help() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_the_help_lists_each_group_with_its_commands() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    for title, names in GROUPS.items():
        section = shown.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == list(names)
    assert "Documentation: https://" in shown


@pytest.mark.parametrize("path", EVERY)
def test_each_command_has_examples_that_it_accepts(path: str) -> None:
    command, _ = EVERY[path]
    examples = examples_of(command)
    assert examples
    assert any(line.startswith(path) for line in examples)
    for line in examples:
        words = shlex.split(line)
        words = words[: words.index(">")] if ">" in words else words
        words = words[: words.index("<")] if "<" in words else words
        names = [word for word in words if not word.startswith("-")]
        depth = max(n for n in range(1, len(names) + 1) if reached(names[:n]))
        if "COMMAND" in words:
            continue
        found, ctx = EVERY[" ".join(words[:depth])]
        # An unknown option, or a missing value of one, is a usage error.
        found.make_parser(ctx).parse_args(words[depth:])


def reached(names: list[str]) -> bool:
    return names == ["pexpolicy"] or " ".join(names) in EVERY


# ---- completion


COMPLETED = {
    "pexpolicy st": "status",
    "pexpolicy audit ": "grep purge ship show tail verify",
    "pexpolicy check --str": "--strict",
    "pexpolicy completion ": "bash zsh fish",
    "pexpolicy unknown st": "status",
    "pexpolicy -c config.toml ch": "check",
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    script = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
    script += 'eval "$(pexpolicy completion bash)"; '
    for line in COMPLETED:
        words = line.split(" ")
        script += f"COMPREPLY=(); COMP_WORDS=({line}); [ -n '{words[-1]}' ] || COMP_WORDS+=(''); "
        script += f"COMP_CWORD={len(words) - 1}; _pexpolicy_completion pexpolicy; "
        script += 'echo "${COMPREPLY[@]}"; '
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
        cwd=tmp_path,
    )
    assert "Traceback" not in done.stderr
    assert dict(zip(COMPLETED, done.stdout.splitlines(), strict=True)) == COMPLETED


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_asks_the_program(shell: str) -> None:
    shown = CliRunner().invoke(main, ["completion", shell])
    assert shown.exit_code == 0
    assert f"_PEXPOLICY_COMPLETE={shell}_complete" in shown.stdout
