"""A short version of the experiment with the OpenAPI description."""

from pathlib import Path

from lab.openapi import run


def test_each_reply_to_generated_requests_is_as_described(tmp_path: Path) -> None:
    done = run(20, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
