"""Hints for command lines that cannot be parsed: what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import click

_INSECURE = "the authority of its certificate is named with --cacert FILE"
_PERIOD = "write --since, and --until for the end"
_PRINTS = "it prints: append > FILE"
_FOREGROUND = "it stays in the foreground: start it with systemd or in a container"
_HINTS: Mapping[str, str] = {
    "--port": "it is an option of serve: pexpolicy serve --port 8000",
    "-v": "-V prints the version",
    "check -f": "write -c FILE",
    "check --file": "write -c FILE",
    "explain --alias": "write the alias alone: pexpolicy explain ALIAS",
    "explain --from": "write --set remote_alias=ALIAS",
    "explain --caller": "write --set remote_alias=ALIAS",
    **{f"explain {name}": "write --at" for name in ("--time", "--date", "--when")},
    "replay --file": "write the names of the files alone",
    **{f"replay {n}": "write --html, --csv or --junit FILE, or --json" for n in ("--format", "-o")},
    **{f"audit {name}": _PERIOD for name in ("--last", "--date", "--from", "--to", "--day")},
    "audit -i": "case does not matter: leave it out",
    "audit --key": "write --public-key",
    "audit verify --since": "a chain is verified as a whole: leave it out",
    **{f"conformance {name}": _INSECURE for name in ("--insecure", "-k")},
    "conformance --url": "write the URL alone",
    **{f"status {name}": _INSECURE for name in ("--insecure", "-k")},
    **{f"{n} --port": "write --url http://127.0.0.1:PORT" for n in ("status", "healthcheck")},
    **{f"reload {n}": "the configuration leads to it: write -c FILE" for n in ("--url", "--port")},
    **{f"export {name}": _PRINTS for name in ("--output", "-o", "--into")},
    **{f"import {name}": "write --into FILE" for name in ("--output", "-o", "--config", "-c")},
    **{f"hash-password {n}": "the password is asked for" for n in ("--password", "-p")},
    "hash-password --stdin": "leave it out: a pipe is read anyway",
    "audit stats --month": _PERIOD,
    "hash-password --user": "leave it out: the hash is of the password alone",
    "serve -p": "write --port",
    "serve --workers": "write server.workers in the configuration",
    "serve --reload": "a changed configuration is loaded anyway; leave it out",
    **{f"serve {name}": _FOREGROUND for name in ("--daemon", "-d", "--background")},
}
"""By the command and an option that it does not have; those of a group are of all its commands."""
_CUTOFF = 0.8
"""Options that are less alike are not suggested: they mean something else."""


def hint_for(error: click.UsageError) -> click.UsageError:
    """Return an error with what to write instead, or the same error if that is not known."""
    context = error.ctx
    if context is None:
        return error
    words = context.command_path.split()[1:]
    if isinstance(error, click.NoSuchOption):
        hint = _for_option(error, words, context.command)
        return click.UsageError(f"No such option {error.option_name!r}{hint}", context)
    if isinstance(error, click.MissingParameter) and (example := _example(context.command)):
        return click.UsageError(f"{error.format_message()} Write for example: {example}", context)
    if found := re.fullmatch(r"No such command '(.*)'\.", error.message):
        names = sorted(getattr(context.command, "commands", {}))
        close = get_close_matches(found[1], names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Commands: {', '.join(names)}."
        return click.UsageError(f"{found[0]} {hint}", context)
    if found := re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", error.message):
        hint = _for_argument(found[1], words, context.command)
        return click.UsageError(f"{error.message}{hint}", context) if hint else error
    return error


def _for_option(error: click.NoSuchOption, words: list[str], command: click.Command) -> str:
    name = error.option_name
    for known in (" ".join((*words, name)), " ".join((*words[:1], name))):
        if known in _HINTS:
            return f"; {_HINTS[known]}"
    if words == ["audit", "tail"] and re.fullmatch(r"-\d", name):
        return "; write -n and the number"
    parameter = name.strip("-").replace("-", "_")
    if words == ["explain"] and parameter in _parameters():
        return f"; write --set {parameter}=VALUE"
    options = [option for one in command.params for option in one.opts]
    close = get_close_matches(name, options, n=1, cutoff=_CUTOFF)
    return f"; did you mean {close[0]!r}?" if close else ""


def _parameters() -> set[str]:
    from pexpolicy.endpoints import ENDPOINTS  # noqa: PLC0415 - for a wrong option only

    return {name for one in ENDPOINTS.values() for name in one.request.parameters()}


def _example(command: click.Command) -> str:
    """Return the first example in the help of a command, or nothing."""
    found = re.search(r"^\s+(pexpolicy .*)$", command.epilog or "", re.MULTILINE)
    return found[1] if found else ""


def _for_argument(text: str, words: list[str], command: click.Command) -> str:
    """Return where an argument belongs, after a semicolon, or nothing."""
    options = {option for one in command.params for option in one.opts}
    if words == ["hash-password"]:
        return "; the password is asked for, as others can see arguments"
    if words == ["explain"]:
        return f"; the caller is named with --set remote_alias={text}"
    if words[:1] == ["export"]:
        return f"; it prints: append > {text}"
    forms = {
        "--config": text.endswith(".toml"),
        "--url": text.startswith(("http://", "https://")) or re.fullmatch(r"[\w.-]+:\d+", text),
        "--port": text.isdecimal(),
        "--lines": text.isdecimal(),
        "--file": text.endswith((".jsonl", ".gz", ".log")) or Path(text).is_file(),
    }
    named = next((option for option, fits in forms.items() if fits and option in options), "")
    if named == "--url" and "://" not in text:
        text = f"http://{text}"
    return f"; write {named} {text}" if named else ""
