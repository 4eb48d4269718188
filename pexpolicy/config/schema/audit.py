"""Schema of ``[audit]`` and ``[privacy]``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pexpolicy.config.schema.base import SecretTable


class AuditTable(SecretTable):
    """``[audit]``: destination of the lines (standard output without a path), durability, and the
    reply when they cannot be written.
    """

    optional = {"sign_key": "the key"}

    path: str | None = None
    level: Literal["file", "fsync", "required"] = "file"
    on_fail: Literal["answer", "fallback", "reject"] = "answer"
    spool: str | None = None
    spool_mb: int = Field(256, ge=1)
    buffer_mb: int = Field(16, ge=1)
    rotate_mb: int | None = Field(None, ge=1)
    rotate_hours: float | None = Field(None, gt=0.0)
    keep: int | None = Field(None, ge=1)
    instance: str | None = Field(None, min_length=1, max_length=100)
    sign_key_env: str | None = None
    sign_key_file: str | None = None
    checkpoint_lines: int = Field(10_000, ge=1)
    checkpoint_seconds: float = Field(60.0, gt=0.0)

    @field_validator("level", "on_fail", mode="before")
    @classmethod
    def _refuse_old_value(cls, value: Any) -> Any:
        if value == "memory":
            msg = 'the level "memory" was removed; write level = "file", or leave the key out'
            raise ValueError(msg)
        if value == "handback":
            msg = '"handback" was renamed; write on_fail = "fallback"'
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _require_on_fail(self) -> Self:
        if self.level == "required" and self.on_fail == "answer":
            msg = (
                'level = "required" sends no decision that is not recorded: choose what is sent '
                'instead, on_fail = "fallback" or "reject"'
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _require_path(self) -> Self:
        if self.path is None and self.level in ("fsync", "required"):
            msg = f'level = "{self.level}" needs a path: standard output has no disk'
            raise ValueError(msg)
        limits = (self.rotate_mb, self.rotate_hours)
        if self.path is None and any(limit is not None for limit in (*limits, self.keep)):
            msg = "standard output is not rotated: write a path, or leave rotate_* and keep out"
            raise ValueError(msg)
        if self.keep is not None and limits == (None, None):
            msg = "keep is for rotate_mb and rotate_hours: without them nothing is rotated"
            raise ValueError(msg)
        return self


class PrivacyTable(SecretTable):
    """``[privacy]``: form of names, aliases and addresses of people in the audit."""

    personal: Literal["clear", "hashed", "dropped"] = "clear"
    key_env: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _key_for_hashes(self) -> Self:
        source = self.secret("key")
        if self.personal == "hashed" and source.places != 1:
            msg = f'personal = "hashed" needs a key: name where it is, {source.keys}'
            raise ValueError(msg)
        if self.personal != "hashed" and source.places:
            msg = 'a key is for personal = "hashed" only; leave it out'
            raise ValueError(msg)
        return self
