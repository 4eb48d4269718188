"""Servers that tests of the conformance test share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tls_server


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[str]:
    """A server that speaks TLS with a certificate that no system trusts."""
    with tls_server.serving(tmp_path, b"{}") as (url, _):
        yield url
