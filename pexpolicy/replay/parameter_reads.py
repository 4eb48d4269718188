"""The parameters that plugins read of a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from multidict import MultiDict, MultiMapping

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import Request, by_prefix, header_name, header_values
from pexpolicy.models.rules import Privacy


class ReadParameters(MultiMapping[str]):
    """Parameters that remember whether one of ``watched`` was read, or all of them were."""

    def __init__(self, params: MultiMapping[str], watched: Iterable[str]) -> None:
        self._params = params
        self._watched = frozenset(watched)
        self.read: set[str] = set()
        """Those of ``watched`` that were read."""

    def _note(self, name: str) -> None:
        if name in self._watched:
            self.read.add(name)

    def _note_all(self) -> None:
        self.read |= self._watched

    def getall(self, key: str, *default: Any) -> Any:
        """Return all values of a parameter."""
        self._note(key)
        return self._params.getall(key, *default)

    def getone(self, key: str, *default: Any) -> Any:
        """Return the first value of a parameter."""
        self._note(key)
        return self._params.getone(key, *default)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the first value of a parameter, or the default."""
        self._note(key)
        return self._params.get(key, default)

    def __getitem__(self, key: str) -> str:
        self._note(key)
        return self._params[key]

    def __contains__(self, key: object) -> bool:
        self._note(str(key))
        return key in self._params

    def __iter__(self) -> Iterator[str]:
        self._note_all()
        return iter(self._params)

    def __len__(self) -> int:
        self._note_all()
        return len(self._params)

    def keys(self) -> Any:
        """Return all names."""
        self._note_all()
        return self._params.keys()

    def items(self) -> Any:
        """Return all names with their values."""
        self._note_all()
        return self._params.items()

    def values(self) -> Any:
        """Return all values."""
        self._note_all()
        return self._params.values()


def is_personal(endpoint: str, name: str) -> bool:
    """Return whether a parameter is one that ``[privacy] personal`` hashes or leaves out."""
    return any(
        name.startswith(parameter.wire)
        if parameter.read is by_prefix
        else header_name(name) == header_name(parameter.wire)
        for parameter in ENDPOINTS[endpoint].request.parameters().values()
        if parameter.privacy is Privacy.PERSONAL
    )


def watch(request: Request, watched: Iterable[str]) -> ReadParameters:
    """Make a request remember which of these parameters are read of it; return the memory.

    ``alias`` is the one in the path, which is always read.
    """
    params = request.params
    reads = ReadParameters(params, watched)
    request.__dict__["params"] = reads
    # Their parsers go through all parameters in search of some.
    for attribute, parameter in type(request).parameters().items():
        if parameter.read is header_values:
            wire = header_name(parameter.wire)
            concerned = any(header_name(name) == wire for name in watched)
        elif parameter.read is by_prefix:
            concerned = any(name.startswith(parameter.wire) for name in watched)
        else:
            continue
        if not concerned:
            request.__dict__[attribute] = parameter.read(MultiDict(params), parameter.wire)
    return reads
