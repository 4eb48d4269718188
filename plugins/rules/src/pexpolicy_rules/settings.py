"""Settings of the plugin: rules and files of rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pexpolicy import ConfigPath, PluginSettings, Secret, Source
from pexpolicy.config.schema import EndpointName
from pexpolicy.matching import When
from pexpolicy.rows import RowSource

Action = Literal["continue", "reject", "redirect", "abstain"]
Line = Annotated[str, Field(min_length=1, max_length=200)]


class Then(PluginSettings):
    """A decision: an action, or the fields of a result under Infinity's names."""

    action: Action | None = None
    """``continue`` uses Infinity's own configuration, ``abstain`` asks the next plugin."""
    result: dict[str, Any] | None = None
    """The fields of the answer; text may hold ``{placeholders}``."""
    image: ConfigPath | None = None
    """Path of a picture, relative to the configuration; for avatars."""
    reason: Line | None = None
    """Reason for the audit log and for Pexip's support log."""
    reject_reason: Line | None = None
    """Text for a rejected participant."""
    new_alias: Line | None = None
    """Target of a redirect, with its scheme."""

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, value: Any) -> Any:
        return {"action": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_decision(self) -> Self:
        answers = self.result is not None or self.image is not None
        actionless = not answers and self.action is None
        for wrong, text in (
            (self.result is not None and self.image is not None, "write result or image, not both"),
            *(
                (
                    actionless and getattr(self, name) is not None,
                    f'{name} has no effect without an action; write action = "{action}" next to it',
                )
                for name, action in (("new_alias", "redirect"), ("reject_reason", "reject"))
            ),
            (
                actionless,
                'is empty; write then = "reject", or the fields of an answer below then.result',
            ),
            (
                answers and self.action not in (None, "continue"),
                f"a {self.action} has no result: Infinity would use the result; remove one of them",
            ),
            (
                (self.new_alias is None) == (self.action == "redirect"),
                'new_alias and action = "redirect" belong together',
            ),
            (
                self.reject_reason is not None and self.action != "reject",
                'reject_reason belongs to action = "reject"',
            ),
        ):
            if wrong:
                raise ValueError(text)
        return self


class Rule(PluginSettings):
    """A rule; the first one whose ``when`` matches a request decides."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """1 to 100 characters, unique; in the reply, the audit and Pexip's support log."""
    endpoint: Annotated[
        list[EndpointName],
        Field(min_length=1),
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    ]
    """The requests that the rule is for: one, or a list."""
    when: When = Field(default_factory=When)
    """Conditions on the request; by default every request matches."""
    then: Then
    """The decision; ``then = "reject"`` is short for ``action = "reject"``."""
    enabled: bool = True
    """False: the rule is checked, but never matches."""


class ListTable(PluginSettings):
    """``sources.NAME``: a list of values for ``in_source``."""

    source: Source[RowSource]
    """NAME of a table ``[sources.NAME]``."""

    query: str = ""
    """What the source is asked; by default all rows of a file."""

    column: str | None = None
    """The column with the values of the list; unset: rows have one column."""

    by_key: bool = False
    """True to ask for each value, the parameter ``value`` of the query. A row is a hit."""

    every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two queries for all rows."""

    cache: ConfigPath | None = None
    """A file that keeps the rows for a start without the source."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.by_key:
            for name in ("column", "every", "cache"):
                if name in self.model_fields_set:
                    msg = f"{name} is for a list of all rows, and by_key asks for each value"
                    raise ValueError(msg)
        return self


class Settings(PluginSettings):
    """``[plugins.rules.settings]``."""

    rules: list[dict[str, Any]] = []
    """Rules in their order, each below a line ``[[plugins.rules.settings.rules]]``."""

    files: list[str] = []
    """Files with further rules, which follow those; ``*`` in a name matches any characters."""

    sources: dict[str, ListTable] = {}
    """Lists of values by name, for the operator ``in_source``."""

    hash_secret: Secret | None = None
    """A secret, which precedes each text that is hashed."""
