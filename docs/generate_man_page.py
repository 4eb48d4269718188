"""The generator of the manual page, from the help of the commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path

import click

from pexpolicy.cli.main import GROUPS, main

PAGE = Path(__file__).parent.parent / "pexpolicy" / "cli" / "pexpolicy.1"


def man_page() -> str:
    """Return the page in the macros of man(7): the commands of the core, without packages."""
    root = click.Context(main, info_name="pexpolicy")
    lines = [
        '.TH PEXPOLICY 1 "" pexpolicy "User Commands"',
        ".SH NAME",
        r"pexpolicy \- answer the external policy calls of Pexip Infinity",
        ".SH SYNOPSIS",
        r".B pexpolicy",
        r"\fICOMMAND\fP [\fIOPTIONS\fP] [\fIARGUMENTS\fP]",
        ".SH DESCRIPTION",
        *_paragraphs(main.help or ""),
        *_paragraphs(main.epilog or ""),
    ]
    for group, names in GROUPS.items():
        lines.append(f".SH {_quoted(group.upper())}")
        for name in names:
            command = main.get_command(root, name)
            assert command is not None
            lines += _command(command, click.Context(command, root, name))
    lines += [
        ".SH EXIT STATUS",
        *_rows(
            [
                ("0", "The command succeeded."),
                ("1", "It failed, or found what it looks for, as its description says."),
                ("2", "Wrong usage."),
                ("75", "A plugin cannot open what it needs; another attempt may succeed."),
                ("78", "The configuration cannot be used."),
            ]
        ),
        ".SH ENVIRONMENT",
        *_rows(
            [
                ("PEXPOLICY_CONFIG", "The configuration file, without --config."),
                ("NO_COLOR", "Print without colours if it is set."),
            ]
        ),
        ".SH FILES",
        *_rows([("config.toml", "The configuration, in the current folder by default.")]),
    ]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    """Yield a command and its subcommands."""
    pieces = " ".join(command.collect_usage_pieces(ctx))
    yield f".SS {_quoted(ctx.command_path + ' ' + pieces)}"
    yield from _paragraphs(command.help or "")
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(ctx))]
    yield from _rows(records)
    yield from _paragraphs(command.epilog or "")
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, ctx, name))


def _paragraphs(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a help text; those after ``\b`` keep their lines."""
    for paragraph in cleandoc(text).split("\n\n"):
        kept = paragraph.startswith("\b\n")
        yield ".PP"
        lines = [_escaped(line) for line in paragraph.removeprefix("\b\n").split("\n")]
        yield from (".nf", *lines, ".fi") if kept else lines


def _rows(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in rows:
        yield ".TP"
        yield f".B {_escaped(name)}"
        yield _escaped(text)


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    r"""Return text for troff, in which \ escapes and . or ' begins a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    PAGE.write_text(man_page())
