"""Warnings about the places of the audit: missing folders, and files that cannot be written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pexpolicy.config.path_hints import odd_path, unwritable
from pexpolicy.config.problems import ConfigWarning
from pexpolicy.config.settings import Settings


def _no_file(written: str, file: Path) -> str:
    """Return why a path is not that of a file for lines, or nothing."""
    if written in ("-", "stdout") or re.fullmatch(
        r"/dev/std(out|err)|/dev/fd/\d|/proc/self/fd/\d", written
    ):
        return "leave path out: lines go to standard output then"
    if written.endswith("/") and not file.is_dir():
        return f"names a file, and ends in /: write {written}audit.jsonl"
    if file.suffix == ".gz":
        return (
            "lines are not compressed, and commands cannot read them under this name: leave .gz out"
        )
    return ""


def audit_path_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each place of the audit that cannot be used on this machine.

    No file is made or opened.
    """
    if settings.audit.path is not None:
        file = settings.resolve(settings.audit.path)
        if text := odd_path(settings.audit.path) or _no_file(settings.audit.path, file):
            pass
        elif text := unwritable(file):
            text += "; a server of this user does not start"
        elif file.is_dir():
            example = f"{settings.audit.path.rstrip('/')}/audit.jsonl"
            text = f"{file} is a folder; name a file, as in {example}"
        elif not file.parent.is_dir():
            fix = f"the server does not start without it: mkdir -p {file.parent}"
            text = f"there is no folder {file.parent}; {fix}"
        if text:
            yield ConfigWarning(("audit", "path"), text)
    if settings.audit.spool is not None:
        folder = settings.resolve(settings.audit.spool)
        if text := odd_path(settings.audit.spool) or unwritable(folder / "spool"):
            yield ConfigWarning(("audit", "spool"), text)
        elif not folder.is_dir():
            text = f"there is no folder {folder} here; without it lines can only wait in memory"
            yield ConfigWarning(("audit", "spool"), text)
