"""Command that attacks the web console; exit code 1 if anything was found."""

import argparse
import sys
import tempfile
from itertools import chain
from pathlib import Path

from lab.console_attacks import markup, requests, secrets


def main() -> int:
    """Read the options, run, print a line for each kind of attack."""
    options = argparse.ArgumentParser(prog="python -m lab.console_attacks", description=__doc__)
    options.add_argument("--texts", type=int, default=5000, help="hostile texts, a call each")
    options.add_argument("--pages", type=int, default=5000, help="pages of calls in the browser")
    options.add_argument("--guesses", type=int, default=1000, help="of a password")
    options.add_argument("--floods", type=int, default=400, help="requests, and half ones")
    given = options.parse_args()
    found = False
    with tempfile.TemporaryDirectory() as made:
        for count in chain(
            secrets.attack(Path(made) / "secrets"),
            requests.attack(Path(made) / "requests", given.guesses, given.floods),
            markup.attack(Path(made) / "markup", given.texts, given.pages),
        ):
            sys.stdout.write(f"{count}\n")
            found |= bool(count.found)
    return found


if __name__ == "__main__":
    sys.exit(main())
