"""The network block: connections that plugins try to open during a replay are refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pexpolicy.models.hook_context import HOOK_CONTEXT

NO_NETWORK = "a replay asks no network"
_EVENTS = frozenset(("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"))


class NetworkBlock:
    """Refuses connections while it is active, and remembers which plugins tried one.

    Python cannot remove an audit hook, so an inactive one stays in the process.
    """

    def __init__(self) -> None:
        self.plugins: set[str] = set()
        """The plugins that tried to connect; an empty name for what no plugin did."""
        self._is_active = False
        self._is_installed = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Refuse connections inside; those of all threads of this process."""
        if not self._is_installed:
            sys.addaudithook(self._audit)
            self._is_installed = True
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False

    @contextmanager
    def inactive(self) -> Iterator[None]:
        """Allow connections inside."""
        self._is_active = False
        try:
            yield
        finally:
            self._is_active = True

    def _audit(self, event: str, _: object) -> None:
        if self._is_active and event in _EVENTS:
            (plugin, _hook), _request = HOOK_CONTEXT.get()
            self.plugins.add(plugin)
            raise ConnectionRefusedError(NO_NETWORK)
