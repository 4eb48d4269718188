"""``[audit]`` and ``[privacy]``: where the lines go, and what stands in them of people."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from pexpolicy.tables.base import Table


class AuditTable(Table):
    """``[audit]``: where the lines go; standard output without a path."""

    path: str | None = None


class PrivacyTable(Table):
    """``[privacy]``: what becomes of names, aliases and addresses of people in the audit."""

    personal: Literal["clear", "hashed", "dropped"] = "clear"
    key_env: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _key_for_hashes(self) -> Self:
        sources = sum(source is not None for source in (self.key_env, self.key_file))
        if self.personal == "hashed" and sources != 1:
            msg = (
                'personal = "hashed" needs a key: name where it is, key_env (a variable) or '
                "key_file (a path)"
            )
            raise ValueError(msg)
        if self.personal != "hashed" and sources:
            msg = 'a key is for personal = "hashed" only; leave it out'
            raise ValueError(msg)
        return self
