"""Several platforms on one server: each call gets what its own platform has."""

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import live_server, wire
from tests.support.paths import ROOT
from tests.support.programs import run

CONFIG = """
[auth]
user = "emea-nodes"
password_file = "emea.txt"
[[auth.credentials]]
user = "apac-nodes"
password_file = "apac.txt"
[[auth.credentials]]
user = "nodes"
password_file = "other.txt"

[environments.emea]
networks = ["127.1.0.0/16"]
credentials = ["emea-nodes"]
[environments.apac]
networks = ["127.2.0.0/16", "127.1.2.0/24"]
credentials = ["apac-nodes"]

[plugins.rooms_emea]
plugin = "rooms"
environments = ["emea"]
[plugins.rooms_emea.settings.rooms.board]
name = "Board of EMEA"
pin = "111111"
theme = "EMEA"

[plugins.rooms_apac]
plugin = "rooms"
environments = ["apac"]
[plugins.rooms_apac.settings.rooms.board]
name = "Board of APAC"
pin = "222222"
theme = "APAC"

[plugins.rules]
priority = 50
[[plugins.rules.settings.rules]]
name = "Locations of EMEA"
endpoint = "media_location"
when.environment = "emea"
then.result.location = "Oslo"

[audit]
path = "audit.jsonl"
"""
