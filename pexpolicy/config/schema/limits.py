"""``[limits]`` of the configuration file.

The limits without a key are in ``access/connections.py``, and the number of headers in
``server/http/bounded_handler.py``.
"""

from __future__ import annotations

from pydantic import Field

from pexpolicy.config.schema.base import Table


class LimitsTable(Table):
    """``[limits]``: the limit of connections."""

    connections: int | None = Field(None, ge=1, le=100_000)
    """Maximum number of open connections of one process. Unset: as many as its limit of open files
    allows, at most 10,000.
    """
