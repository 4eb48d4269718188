"""``python -m pexpolicy`` is the command ``pexpolicy``."""

from pexpolicy.cli import main

main(prog_name="pexpolicy")
