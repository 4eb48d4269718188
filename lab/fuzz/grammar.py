"""Grammar of fuzz cases, each generated from the seed and its number only."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from lab.fuzz import broken, framing
from lab.fuzz.clean import MUTATIONS, clean_shot
from lab.fuzz.requests import Dice, FuzzCase, Sample, make_token, read_samples

ROUGH_SHARE = 0.15
HEAVY_SHARE = 0.05
Maker = Callable[[bytes, Dice], FuzzCase]
MAKERS: tuple[Maker, ...] = (
    *(broken.version, broken.no_version, broken.method, broken.host, broken.target_form),
    *(broken.header, broken.header, broken.target_bytes, broken.target_bytes),
    *(broken.bitten, broken.bitten, broken.bitten),
    *(framing.chunked, framing.bad_chunks, framing.length, framing.bad_length),
    *(framing.expect, framing.upgrade, framing.line_ends, framing.leading_noise),
    *(framing.half_sent, framing.half_sent, framing.other_protocol),
)
HEAVY_MAKERS: tuple[Maker, ...] = (broken.long_line, broken.many_headers)


class Grammar:
    """Makes the cases of one seed; `token` is what no reply may hold."""

    def __init__(self, seed: int, samples: tuple[Sample, ...] | None = None) -> None:
        self.seed = seed
        self.token = make_token(seed)
        self._samples = samples or read_samples()
        self._dice = Dice(Random(), self.token)

    def case(self, number: int) -> FuzzCase:
        """Make case `number`; the same number gives the same bytes each time."""
        rng = self._dice.rng
        rng.seed((self.seed << 40) + number)
        sample = rng.choice(self._samples)
        rough = rng.random() < ROUGH_SHARE
        case = self._rough(sample) if rough else clean_shot(sample, self._dice)
        return replace(case, number=number)

    def _rough(self, sample: Sample) -> FuzzCase:
        rng = self._dice.rng
        parameters = list(sample.parameters)
        if rng.random() < 0.5:
            rng.choice(MUTATIONS)(parameters, self._dice)
        makers = HEAVY_MAKERS if rng.random() < HEAVY_SHARE else MAKERS
        return rng.choice(makers)(sample.path + b"?" + b"&".join(parameters), self._dice)
