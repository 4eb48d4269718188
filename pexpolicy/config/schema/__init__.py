"""The tables of the configuration file: what they have in common."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from pexpolicy.config.secrets import SecretSource
from pexpolicy.models.attribute_docs import attribute_docs

MAX_BUDGET = 4.5
"""Seconds; a node gives up after 5, and the reply takes time to arrive."""

EndpointName = Literal[
    "service_configuration",
    "participant_properties",
    "media_location",
    "participant_avatar",
    "directory_information",
    "registration_alias",
]


_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def key_docs(table: type) -> dict[str, str]:
    """Return the docstring of each key without links; raises ``OSError`` without the source."""
    return {key: _LINK.sub(r"\1", text) for key, text in attribute_docs(table).items()}


def _describe(schema: dict[str, Any], table: type[BaseModel]) -> None:
    """Add the docstrings of the keys, which editors show, to JSON Schema."""
    for key, text in key_docs(table).items():
        if key in schema["properties"]:
            schema["properties"][key]["description"] = text


class Table(BaseModel):
    """The base of the tables: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        json_schema_extra=_describe,
    )


class SecretTable(Table):
    """The base of the tables with secrets, which are in a variable or a file."""

    def secret(self, name: str) -> SecretSource:
        """Return the source of a secret."""
        return SecretSource(name, getattr(self, f"{name}_env", None), getattr(self, f"{name}_file"))

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        for name in (key.removesuffix("_env") for key in type(self).model_fields):
            if f"{name}_env" in type(self).model_fields and self.secret(name).places > 1:
                raise ValueError(f"write {self.secret(name).keys}, not both")
        return self
