"""Settings of ``sql``: a query for each endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from pexpolicy import PluginSettings, Source
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_sources.sql import SqlSource


class Settings(PluginSettings):
    """``[plugins.sql.settings]``: the columns of each query are fields of the decision."""

    source: Source[SqlSource]
    """NAME of a table ``[sources.NAME]`` with ``driver = "sql"``."""

    service_configuration: str | None = None
    """The service of an alias."""

    participant_properties: str | None = None
    """The properties of a participant."""

    media_location: str | None = None
    """The location for the media of a participant."""

    participant_avatar: str | None = None
    """The picture of a participant, in the column ``image``."""

    directory_information: str | None = None
    """The entries of the phone book for a search; a row for each."""

    registration_alias: str | None = None
    """The credentials of a device."""

    @model_validator(mode="after")
    def _has_a_query(self) -> Self:
        if not any(self.queries()):
            msg = f"there is no query: write one for any of {', '.join(ENDPOINTS)}"
            raise ValueError(msg)
        return self

    def queries(self) -> Iterator[tuple[str, str]]:
        """Yield each endpoint that has a query, with the query."""
        for endpoint in ENDPOINTS:
            query: str | None = getattr(self, endpoint)
            if query is not None:
                yield endpoint, query
