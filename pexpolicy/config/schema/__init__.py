"""The tables of the configuration file: what they have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    def secret(self, name: str) -> SecretSource:
        """Return the source of a secret, which is in a variable or a file."""
        places = (getattr(self, f"{name}_{place}", None) for place in ("env", "file"))
        return SecretSource(name, *places)

    def _misfits(self) -> Iterator[str]:
        """Yield what is wrong with keys that are right on their own; the first is reported."""
        yield from ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = (key[:-4] for key in type(self).model_fields if key.endswith("_env"))
        twice = (one.keys for one in map(self.secret, names) if one.places > 1)
        for text in (*(f"write {keys}, not both" for keys in twice), *self._misfits()):
            raise ValueError(text)
        return self


Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
