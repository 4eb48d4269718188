"""A lifespan of the wrong shape ends the start with 78: another attempt cannot succeed."""

import os
import subprocess
from pathlib import Path

import pytest

from pexpolicy.cli.common import EX_TEMPFAIL
from tests.support import forked, live_server

SOURCE = """
import asyncio
from contextlib import contextmanager
from pexpolicy import hookimpl

async def coroutine():
    pass

class Shapes:
    @hookimpl
    def lifespan(self):
        {body}

    @hookimpl
    async def service_configuration(self, request):
        pass
"""


def served(folder: Path, body: str, isolation: str) -> subprocess.CompletedProcess[str]:
    table = f'isolation = "{isolation}"\nprocesses = 1'
    source = SOURCE.format(body=body)
    live_server.drop_in(folder, "shapes", source, table, "[server]\nport = 0\n[admin]\nport = 0")
    return forked.run("serve", cwd=folder)


@pytest.mark.parametrize(
    ("body", "isolation", "returned"),
    [
        ("return contextmanager(lambda: iter([1]))()", "none", "a _GeneratorContextManager,"),
        ("return coroutine()", "process", "returned a coroutine,"),
    ],
)
def test_a_wrong_shape_is_named_and_final(
    tmp_path: Path, body: str, isolation: str, returned: str
) -> None:
    result = served(tmp_path, body, isolation)
    assert result.returncode == os.EX_CONFIG, result.stderr
    assert "shapes (" in result.stderr
    assert returned in result.stderr
    assert "write async def, and @asynccontextmanager" in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
    assert "never awaited" not in result.stderr


def test_a_lifespan_that_fails_may_succeed_later(tmp_path: Path) -> None:
    body = "raise OSError('no database')"
    result = served(tmp_path, body, "none")
    assert result.returncode == EX_TEMPFAIL == 75
    assert "no database" in result.stderr
