"""Batches of generated replies, counted by what becomes of them."""

import random
from collections import Counter
from dataclasses import dataclass, field

from lab.foreign_replies.contract import expected
from lab.foreign_replies.readers import disagreement
from lab.foreign_replies.samples import sample

BATCH = 5000


@dataclass(slots=True)
class Tally:
    """What became of replies, and each that was read wrongly."""

    outcomes: Counter[str] = field(default_factory=Counter)
    rows: set[tuple[str, bool, str, str]] = field(default_factory=set)
    """The combinations that came up."""
    wrong: list[str] = field(default_factory=list)


def batch(seed: int, size: int = BATCH) -> Tally:
    """As many replies of one seed."""
    rng, tally = random.Random(seed), Tally()
    for _ in range(size):
        made = sample(rng)
        tally.outcomes[expected(made)] += 1
        tally.rows.add((made.endpoint, made.succeeds, str(made.action), made.kind))
        if text := disagreement(made):
            tally.wrong.append(text)
    return tally
