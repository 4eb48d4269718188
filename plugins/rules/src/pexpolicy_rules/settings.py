"""Rules as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from pexpolicy import (
    ConfigPath,
    EndpointName,
    PluginSettings,
)
from pexpolicy.matching import When

Action = Literal["continue", "reject", "redirect", "abstain"]
Line = Annotated[str, Field(min_length=1, max_length=200)]


class Then(PluginSettings):
    """What is decided: an action, or the fields of a result under Infinity's own names."""

    action: Action | None = None
    """``continue`` leaves the call to Infinity, ``abstain`` asks the next plugin."""
    result: dict[str, Any] | None = None
    """The fields of the answer; text may hold ``{placeholders}``."""
    image: ConfigPath | None = None
    """A picture, by its path relative to the configuration; for avatars."""
    reason: Line | None = None
    """Why, for the audit and for Pexip's support log."""
    reject_reason: Line | None = None
    """What a refused participant is told."""
    new_alias: Line | None = None
    """Where a redirect leads, with its scheme."""

    @model_validator(mode="before")
    @classmethod
    def _action_alone(cls, written: Any) -> Any:
        return {"action": written} if isinstance(written, str) else written

    @model_validator(mode="after")
    def _one_decision(self) -> Self:
        answers = self.result is not None or self.image is not None
        if self.result is not None and self.image is not None:
            msg = "write result or image, not both"
            raise ValueError(msg)
        for name, action in (("new_alias", "redirect"), ("reject_reason", "reject")):
            if not answers and self.action is None and getattr(self, name) is not None:
                msg = f'{name} does nothing alone; write action = "{action}" next to it'
                raise ValueError(msg)
        if not answers and self.action is None:
            msg = (
                'says nothing yet; write then = "reject", or the fields of an answer below '
                "then.result"
            )
            raise ValueError(msg)
        if answers and self.action not in (None, "continue"):
            msg = f"a {self.action} has no result: Infinity would take the result; leave one out"
            raise ValueError(msg)
        if (self.new_alias is None) == (self.action == "redirect"):
            msg = 'new_alias and action = "redirect" belong together'
            raise ValueError(msg)
        if self.reject_reason is not None and self.action != "reject":
            msg = 'reject_reason belongs to action = "reject"'
            raise ValueError(msg)
        return self


class Rule(PluginSettings):
    """One rule: the first whose ``when`` a request matches decides."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    endpoint: Annotated[
        list[EndpointName],
        Field(min_length=1),
        BeforeValidator(lambda written: [written] if isinstance(written, str) else written),
    ]
    when: When = Field(default_factory=When)
    then: Then
    enabled: bool = True


class Settings(PluginSettings):
    """``[plugins.rules.settings]``."""

    rules: list[dict[str, Any]] = Field(default_factory=list)
    """Rules in the order in which they are tried; each is read by itself, as a ``Rule``."""

    files: list[str] = Field(default_factory=list)
    """Files with further rules, behind those; ``*`` in a name stands for any characters."""

    _root: Path = PrivateAttr(Path())

    @property
    def root(self) -> Path:
        """The folder of the configuration."""
        return self._root

    def model_post_init(self, context: Any, /) -> None:
        """Keep the folder that paths are relative to."""
        self._root = Path((context or {}).get("root", ""))
