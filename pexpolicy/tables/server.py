"""``[server]`` and ``[auth]``: where it listens, and what has to be sent."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from pexpolicy.tables.base import MAX_BUDGET, Table


class ServerTable(Table):
    """``[server]``: where it listens, and how long a call may take."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    base_path: str = ""
    budget: float = Field(4.0, gt=0.0, le=MAX_BUDGET)
    allow_anonymous: bool = False
    workers: int = Field(1, ge=1, le=64)
    drain_delay: float = Field(0.0, ge=0.0, le=60.0)

    @field_validator("base_path")
    @classmethod
    def _base_path_is_a_prefix(cls, path: str) -> str:
        if path and (
            not path.startswith("/") or path.endswith("/") or re.search(r"[?#%\s{}]", path)
        ):
            msg = "begin with a slash and do not end with one, as in /api/pexip"
            raise ValueError(msg)
        if "/policy/v1" in path:
            msg = "leave out /policy/v1, which Infinity adds to the URL of its profile"
            raise ValueError(msg)
        return path


class AuthTable(Table):
    """``[auth]``: the credentials that Infinity's policy profile sends."""

    user: str = Field(min_length=1, max_length=100, pattern=r"^[^:\x00-\x1f]+$")
    password_env: str | None = None
    password_file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.password_env is None) == (self.password_file is None):
            msg = "name where the password is: password_env (a variable) or password_file (a path)"
            raise ValueError(msg)
        return self
