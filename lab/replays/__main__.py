"""Compare replays with live answers: `python -m lab.replays [PAIRS] [SEED]`.

Each pair is a call and two configurations. Their live answers are the same exactly where the replay
of the audit of the first one against the second one says so; PINs, which no audit holds, are
compared by the replay of both configurations.
"""

import sys
import tempfile
import time
from pathlib import Path

from lab.replays.pairs import check

if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    count, seed = (numbers + [10_000, 1][len(numbers) :])[:2]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        differing = check(Path(folder), count, seed)
    seconds = time.process_time() - began
    text = f"{count:,} pairs, {differing:,} with other answers, none told wrongly"
    sys.stdout.write(f"{text} ({seconds:.0f} s of processor time)\n")
