# ruff: noqa: INP001 - a file to read, and no module
"""Settings of a Django policy server, in the form that such servers have: written for this example.

Only the literals are of interest to `pexpolicy import`; the file is never executed.
"""

import os

DEBUG = os.environ.get("DEBUG", "") == "1"

ALLOWED_REGISTRATION_DOMAINS = ["@example.com", "@trusted.example"]

DEFAULT_ROOM = "Default Room - {local_alias}"


def room_config() -> object:
    """The rooms by the alias that is dialed."""
    rooms = {
        "sip:engineering@example.com": {
            "name": "Engineering Room",
            "service_tag": "engineering-room",
            "service_type": "conference",
            "pin": "",
            "aliases": ["engineering"],
            "enable_active_speaker_indication": "true",
            "enable_overlay_text": "true",
            "service_theme": None,
        },
        "sip:Board@example.com": {
            "name": "Board",
            "service_tag": "board",
            "pin": "482913",
            "guest_pin": "170356",
            "allow_guests": True,
            "participant_limit": 50,
        },
    }
    return rooms  # noqa: RET504 - a name for the importer to find
