"""The recorder of the functions of the package that some work enters."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from pexpolicy.errors import PACKAGE_ROOT


@dataclass
class Walk:
    """The functions that were entered, as (file, qualified name), in order of the first entry."""

    functions: dict[tuple[str, str], None] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The files of the package, relative to it."""
        return list(dict.fromkeys(file for file, _ in self.functions))

    def common(self, other: Walk) -> Walk:
        """Return what both walks entered, leaving out what only one of them did."""
        return Walk({name: None for name in self.functions if name in other.functions})

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE_ROOT):
            path = file.removeprefix(PACKAGE_ROOT).lstrip("/")
            self.functions.setdefault((path, frame.f_code.co_qualname))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record in this thread and in threads that start meanwhile."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
