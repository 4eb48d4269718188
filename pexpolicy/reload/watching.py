"""Noticing that a file of the configuration has changed.

The files themselves are looked at, twice a second. Being told by the kernel means watching their
folders: it tells of each audit line that is written beside the configuration, and nothing of what
lies behind a symbolic link or on a file server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from pexpolicy.watched import Look, look_at

PAUSE = 0.5
"""Seconds between two looks. A file counts as changed once two looks saw the same new version, so
that one which is being written is left alone."""


class Changes:
    """Tells from one look to the next whether files have changed and come to rest."""

    def __init__(self) -> None:
        self._known: Look = {}
        self._latest: Look = {}
        self._lock = threading.Lock()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to look at."""
        return tuple(self._known)

    def expect(self, now: Look, before: Look, read_at: float) -> None:
        """Begin with files that were read since ``read_at``, in seconds since the epoch.

        ``before`` is what was seen of some of them then, ``now`` is what is seen of all. A version
        that came later may not be the one that was read: it counts as a change.
        """
        with self._lock:
            self._known = {
                file: before[file]
                if file in before
                else version
                if version is not None and version.is_older_than(read_at)
                else None
                for file, version in now.items()
            }
            self._latest = {}

    def seen(self, look: Look) -> bool:
        """Take note of a look; true when it shows a change that the one before it showed too."""
        with self._lock:
            at_rest = look == self._latest
            self._latest = look
            # Which files are watched may have changed while they were looked at.
            if not at_rest or look == self._known or look.keys() != self._known.keys():
                return False
            self._known = look
            return True


class Watch:
    """Looks at files in a thread of its own, and says when they have changed and come to rest."""

    def __init__(self, changed: Callable[[], None], pause: float = PAUSE) -> None:
        self._changed = changed
        self._pause = pause
        self._changes = Changes()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pexpolicy-watch", daemon=True)

    def look_after(self, files: Iterable[Path], before: Look, read_at: float) -> None:
        """Watch these files from now on; see ``Changes.expect``."""
        self._changes.expect(look_at(files), before, read_at)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A look that does not come back, at a file server that is gone, is left."""
        self._stopped.set()
        self._thread.join(self._pause)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause):
            if self._changes.seen(look_at(self._changes.files)):
                self._changed()
