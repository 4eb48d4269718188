"""Schemathesis against a server whose plugins answer all six requests.

The requests are generated from the OpenAPI description, valid and invalid ones, and each reply is
compared with it: ``python -m lab.openapi EXAMPLES``.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from pexpolicy import __version__
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.schema import openapi
from tests.support import live_server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
"""Not those that expect a refusal of invalid parameters: they read as unset."""
CONFIG = """
[audit]
path = "audit.jsonl"

[plugins.rules]
[[plugins.rules.settings.rules]]
name = "Reject short aliases"
endpoint = "service_configuration"
when.local_alias.regex = "^.{1,2}$"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Redirect"
endpoint = "service_configuration"
when.local_alias.regex = "^.{3}$"
then = { action = "redirect", new_alias = "sip:meet@example.com" }
[[plugins.rules.settings.rules]]
name = "Chairs"
endpoint = "participant_properties"
when.local_alias.regex = "^.{1,3}$"
then.result.call_tag = "short"

[plugins.rooms.settings]
default_room = "{local_alias}"
[plugins.rooms.settings.rooms."meet@example.com"]
name = "Meet"
pin = "471100"

[plugins.domains.settings]
allowed = ["@example.com"]

[plugins.locations.settings]
default = "Oslo"

[plugins.avatars.settings.initials]

[plugins.directory.settings]
entries = [{ alias = "anna@example.com", name = "Anna Berg" }]
"""


def run(examples: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Start a server, and send it generated requests."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    description = folder / "openapi.json"
    description.write_text(json.dumps(openapi(__version__)))
    with live_server.running(config) as server:
        url = server.url.removesuffix("/")
        arguments = ("run", str(description), "--url", url, "--checks", ",".join(CHECKS))
        limits = ("--max-examples", str(examples), "--generation-deterministic")
        quiet = ("--no-color", "--warnings", "off", "--no-shrink")
        program = str(Path(sys.executable).with_name("schemathesis"))
        command = (program, *arguments, *limits, *quiet)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, timeout=3600
        )
        seen = {line["endpoint"] for line in server.lines() if line["event"] == "decision"}
    assert seen == set(ENDPOINTS), done.stdout + done.stderr
    return done


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        result = run(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, Path(place))
    sys.stdout.write(result.stdout + result.stderr)
    sys.exit(result.returncode)
