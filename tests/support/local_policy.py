"""Inputs of local policy scripts, and the command that runs them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pexpolicy.cli.main import main

NOON = 1_768_478_400.0
"""Seconds since 1970: noon of 15 January 2026, a Thursday, in UTC."""
ROOM: Mapping[str, Any] = {
    "name": "Alice",
    "service_type": "conference",
    "service_tag": "abcd",
    "pin": "123456",
    "guest_pin": "567890",
    "allow_guests": True,
}
CALL: Mapping[str, Any] = {
    "call_direction": "dial_in",
    "protocol": "sip",
    "vendor": "Cisco/CE",
    "registered": False,
    "local_alias": "meet.alice@example.com",
    "remote_alias": "sip:bob@example.com",
    "remote_display_name": "Bob",
    "remote_address": "10.44.0.7",
    "location": "Oslo",
}
PASS = """{
  {% if service_config %}
    "action": "continue", "result": {{ service_config|pex_to_json }}
  {% else %}
    "action": "reject", "result": {}
  {% endif %}
}"""
"""The smallest script that changes nothing."""


def local_policy(*arguments: str | Path) -> Result:
    """Run ``pexpolicy local-policy``."""
    return CliRunner().invoke(main, ["local-policy", *map(str, arguments)])


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file and return its path."""
    path.write_text(json.dumps(value))
    return path
