"""Plugin class of ``sql``: a hook for each endpoint that has a query."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from multidict import MultiDict
from pydantic import model_validator
from typing_extensions import override

from pexpolicy import (
    ConfigWarning,
    Decision,
    Plugin,
    PluginSettings,
    Problem,
    Request,
    SettingsError,
    Source,
    hookimpl,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import parameters_of
from pexpolicy.text import suggest
from pexpolicy_sources import QueryError, SourceUnavailableError
from pexpolicy_sources.sql import SqlSource
from pexpolicy_sql.decisions import RowDecisions


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
            raise ValueError(f"there is no query: write one for any of {', '.join(ENDPOINTS)}")
        return self

    def queries(self) -> Iterator[tuple[str, str]]:
        """Yield each endpoint that has a query, with the query."""
        for endpoint in ENDPOINTS:
            query: str | None = getattr(self, endpoint)
            if query is not None:
                yield endpoint, query


_SCALARS = (str, int, type(None))


class SqlQueries(Plugin[Settings]):
    """Answers with the rows of a query; abstains where there are none."""

    can_reject = False

    def __init__(self, settings: Settings) -> None:
        """Check the queries, by the database if it can be reached; raise ``SettingsError``."""
        self.settings = settings
        self._unreachable = ""
        problems: list[Problem] = []
        for endpoint, query in settings.queries():
            try:
                # Only these hooks exist, so that other endpoints cost nothing.
                setattr(self, endpoint, self._hook(endpoint, query))
            except SettingsError as error:
                problems += [Problem((endpoint,), problem.text) for problem in error.problems]
            except (ValueError, QueryError) as error:
                problems.append(Problem((endpoint,), str(error)))
        if problems:
            raise SettingsError(problems=problems)

    def _parameters(self, endpoint: str, query: str) -> Sequence[str]:
        """Return the fields of the request that a query uses; raises ``ValueError``."""
        known = request_fields(endpoint)
        self.settings.source.prepare(query, names := self.settings.source.parameters(query))
        for name in names:
            if name not in known:
                msg = f"the query has the parameter :{name}, and the request no such field"
                raise ValueError(msg + suggest(name, known))
        return names

    def _columns(self, query: str) -> Sequence[str] | None:
        """Return the columns of a query; ``None`` if the database cannot be reached."""
        if self._unreachable:
            return None
        try:
            return self.settings.source.columns(query)
        except SourceUnavailableError as error:
            self._unreachable = str(error)
            return None

    def _hook(
        self, endpoint: str, query: str
    ) -> Callable[..., Coroutine[Any, Any, Decision | None]]:
        decisions = RowDecisions(endpoint, self.settings.extras)
        parameters = self._parameters(endpoint, query)
        columns = self._columns(query)
        if columns is not None and (issues := list(decisions.issues(columns))):
            raise SettingsError(*issues)
        self.can_reject |= decisions.can_reject(columns)
        lookup = self.settings.source.lookup(query, parameters)
        make = decisions.make

        async def decide(request: Request) -> Decision | None:
            found = await lookup.ask(**{name: getattr(request, name) for name in parameters})
            request.annotate(source_age=round(found.age, 1))
            return make(found.rows) if found.rows else None

        decide.__name__ = endpoint
        return hookimpl(decide)

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of queries that could not be checked."""
        if self._unreachable:
            text = f"the columns of the queries are not checked: {self._unreachable}"
            yield ConfigWarning(("source",), text)

    @override
    def status(self) -> Mapping[str, object]:
        """Return what the queries did, by endpoint."""
        found = self.settings.source.status()
        return {endpoint: found.get(query) for endpoint, query in self.settings.queries()}


def request_fields(endpoint: str) -> list[str]:
    """Return the fields of a request that a query can have as parameters."""
    kind = ENDPOINTS[endpoint].request
    request = ENDPOINTS[endpoint].parse(MultiDict())
    names = [name for name in parameters_of(kind) if isinstance(getattr(request, name), _SCALARS)]
    return sorted({*names, *(("alias",) if hasattr(request, "alias") else ())})
