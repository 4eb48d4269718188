"""The commands of the deployment page."""

import shlex

from tests.support import doc_pages
from tests.support.paths import ROOT

COMMANDS = [
    line
    for language, text in doc_pages.blocks(doc_pages.DEPLOYMENT)
    if language == "sh"
    for line in text.splitlines()
]
"""Every command of the page."""


def test_what_the_commands_name_is_there() -> None:
    named = [word for line in COMMANDS for word in shlex.split(line) if word.startswith("deploy/")]
    assert len(named) > 1
    assert all((ROOT / word).exists() for word in named)
