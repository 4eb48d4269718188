"""``python -m pexpolicy`` is the command ``pexpolicy``."""

from pexpolicy.cli.main import main

main(prog_name="pexpolicy")
