"""Command that attacks the web console; exit code 1 if anything was found."""

import argparse
import sys
import tempfile
from itertools import chain
from pathlib import Path

from rich.console import Console

from lab.console_attacks.run import with_markup, with_requests, with_secrets


def main() -> int:
    """Read the options, run, print a line for each kind of attack."""
    options = argparse.ArgumentParser(prog="python -m lab.console_attacks", description=__doc__)
    options.add_argument("--texts", type=int, default=5000, help="hostile texts, a call each")
    options.add_argument("--pages", type=int, default=5000, help="pages of calls in the browser")
    options.add_argument("--guesses", type=int, default=1000, help="of a password")
    options.add_argument("--streams", type=int, default=400, help="and half-sent requests")
    given = options.parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    found = False
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for name in ("markup", "requests"):
            (root / name).mkdir()
        for count in chain(
            with_secrets(root / "secrets"),
            with_requests(root / "requests", given.guesses, given.streams),
            with_markup(root / "markup", given.texts, given.pages),
        ):
            console.print(str(count))
            found |= bool(count.found)
    return found


if __name__ == "__main__":
    sys.exit(main())
