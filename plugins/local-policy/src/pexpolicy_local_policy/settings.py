"""Settings of ``local-policy``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from pexpolicy import ConfigPath, PluginSettings

PLUGIN_TIMEOUT = 1.0
MARGIN = 0.2
"""Seconds of the plugin's timeout that remain to end a script that is late."""


class LocalPolicySettings(PluginSettings):
    """``[plugins.local-policy.settings]``."""

    service_configuration: ConfigPath | None = None
    """Script for services."""
    participant_properties: ConfigPath | None = None
    """Script for participants."""
    media_location: ConfigPath | None = None
    """Script for media locations."""
    adjust: bool = False
    """``true`` runs the scripts on the decisions of other plugins, as a node does after external
    policy; ``false`` lets them decide.
    """
    processes: int = Field(1, ge=1, le=16)
    """Processes that run the scripts."""

    _timeout: float = PrivateAttr(PLUGIN_TIMEOUT)

    @model_validator(mode="after")
    def _surroundings(self, info: ValidationInfo) -> Self:
        self._timeout = (info.context or {}).get("timeout", PLUGIN_TIMEOUT)
        return self

    @model_validator(mode="after")
    def _has_a_script(self) -> Self:
        if not any(True for _ in self.scripts()):
            msg = "names no script: write service_configuration = 'FILE', for example"
            raise ValueError(msg)
        return self

    @property
    def seconds(self) -> float:
        """Return the limit of one run of a script, within the timeout of the plugin."""
        return max(self._timeout - MARGIN, self._timeout / 2)

    def scripts(self) -> Iterator[tuple[str, Path]]:
        """Yield endpoint and file of each script."""
        for name in ("service_configuration", "participant_properties", "media_location"):
            path: Path | None = getattr(self, name)
            if path is not None:
                yield name, path
