"""Plugins that only the benchmark uses."""

from pexpolicy_bench.abstain import Abstain
from pexpolicy_bench.adjust import Adjust
from pexpolicy_bench.made import Made

__all__ = ["Abstain", "Adjust", "Made"]
