"""Warnings about environment variables that look like keys of the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pexpolicy.config.problems import ConfigWarning, Key, dotted_key
from pexpolicy.config.schema.document import Document

CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that Docker and Podman make in each container."""
PREFIX = "PEXPOLICY_"
_OTHER_FILE = frozenset(("PEXPOLICY_CONFIG_FILE", "PEXPOLICY_CONFIG_PATH", "PEXPOLICY_CONF"))


def in_container(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process runs in a container of Docker, Podman or Kubernetes."""
    return "KUBERNETES_SERVICE_HOST" in environment or any(map(Path.exists, CONTAINER_MARKS))


def variable_warnings(environment: Mapping[str, str] = os.environ) -> Iterator[ConfigWarning]:
    """Yield a warning for each variable that other servers would read as a key.

    Those that Kubernetes sets for a Service called pexpolicy, such as ``PEXPOLICY_PORT =
    tcp://10.0.0.1:8000``, are none.
    """
    for name in sorted(environment.keys() & _OTHER_FILE):
        text = f"the environment variable {name} is not read: write PEXPOLICY_CONFIG"
        yield ConfigWarning((), text)
    for name in sorted(environment.keys() & _variables().keys()):
        if "://" not in environment[name]:
            key = _variables()[name]
            text = f"the environment variable {name} is not read: write {dotted_key(key)} here"
            yield ConfigWarning(key, text)


@cache
def _variables() -> Mapping[str, Key]:
    """Return the keys by the variables that look like them; those of ``[server]`` are shorter
    too.
    """
    found: dict[str, Key] = {}
    for table, info in Document.model_fields.items():
        fields = getattr(info.annotation, "model_fields", {})
        for key in fields:
            if not key.endswith(("_env", "_file")):
                found[f"{PREFIX}{table}_{key}".upper()] = (table, key)
                if table == "server":
                    found[f"{PREFIX}{key}".upper()] = (table, key)
    return found
