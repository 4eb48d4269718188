"""What all tables of the configuration have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from pexpolicy.config.secrets import SecretSource

MAX_BUDGET = 4.5
"""Seconds; the node gives up at 5, and the reply has to travel."""

EndpointName = Literal[
    "service_configuration",
    "participant_properties",
    "media_location",
    "participant_avatar",
    "directory_information",
    "registration_alias",
]


class Table(BaseModel):
    """The base of the tables: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SecretTable(Table):
    """The base of the tables with secrets, which a variable or a file holds."""

    optional: ClassVar[Mapping[str, str]] = {}
    """The secrets that may be left out, and what a message calls each."""

    def secret(self, name: str) -> SecretSource:
        """Return where a secret is."""
        return SecretSource(name, getattr(self, f"{name}_env"), getattr(self, f"{name}_file"))

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        for name, called in self.optional.items():
            if (source := self.secret(name)).places > 1:
                msg = f"name one place of {called}: {source.keys}"
                raise ValueError(msg)
        return self
