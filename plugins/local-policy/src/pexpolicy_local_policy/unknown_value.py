"""A variable that only a node knows."""

from __future__ import annotations

from typing import NoReturn


class UnknownValueError(Exception):
    """A script read a variable that is not known here."""


class UnknownValue:
    """Stands for a variable that is not known: whatever reads it raises ``UnknownValueError``.

    A script that does not depend on it runs as on a node.
    """

    __slots__ = ("_unknown_name",)

    def __init__(self, name: str) -> None:
        self._unknown_name = name

    def touch(self, *_: object) -> NoReturn:
        """Raise ``UnknownValueError``."""
        raise UnknownValueError(f"it reads {self._unknown_name}, which only the node knows")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.touch()

    __bool__ = __len__ = __iter__ = __str__ = __hash__ = __int__ = __float__ = touch
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = touch
    __getitem__ = __contains__ = __call__ = touch
    __add__ = __radd__ = __mod__ = __rmod__ = __mul__ = __rmul__ = touch
