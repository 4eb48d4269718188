"""Grammar of fuzz cases, each generated from the seed and its number only."""

from dataclasses import replace
from random import Random

from lab.fuzz.clean import MUTATIONS, clean_shot
from lab.fuzz.requests import Dice, FuzzCase, make_token, read_samples
from lab.fuzz.rough import KINDS, WEIGHTS

ROUGH_SHARE = 0.15


class Grammar:
    """Makes the cases of one seed; `token` is what no reply may hold."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.token = make_token(seed)
        self._samples = read_samples()
        self._dice = Dice(Random(), self.token)

    def case(self, number: int) -> FuzzCase:
        """Make case `number`; the same number gives the same bytes each time."""
        rng = self._dice.rng
        rng.seed((self.seed << 40) + number)
        sample = rng.choice(self._samples)
        if rng.random() >= ROUGH_SHARE:
            return replace(clean_shot(sample, self._dice), number=number)
        parameters = list(sample.parameters)
        if rng.random() < 0.5:
            rng.choice(MUTATIONS)(parameters, self._dice)
        (kind,) = rng.choices(KINDS, WEIGHTS)
        target = sample.path + b"?" + b"&".join(parameters)
        return replace(kind.case(target, self._dice), number=number)
