"""The servers that run side by side in one duel."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import launches
from bench.lab import Lab
from bench.servers import Launch, Server
from bench.traffic import Traffic


@dataclass(frozen=True)
class Contender:
    """A running server and the calls that it gets."""

    server: Server
    traffic: Traffic

    @property
    def name(self) -> str:
        """The name of the launch."""
        return self.server.launch.name


@contextmanager
def beside_each_other(
    lab: Lab, entries: Sequence[tuple[Launch, Traffic]]
) -> Iterator[list[Contender]]:
    """The servers of ``entries``."""
    with ExitStack() as stack:
        yield [
            Contender(stack.enter_context(lab.serve(launch, traffic)), traffic)
            for launch, traffic in entries
        ]


@contextmanager
def beside_bare(lab: Lab, entries: Sequence[tuple[Launch, Traffic]]) -> Iterator[list[Contender]]:
    """The servers of ``entries``, and last a bare one that sends the first one's reply."""
    with ExitStack() as stack:
        contenders = [
            Contender(stack.enter_context(lab.serve(launch, traffic)), traffic)
            for launch, traffic in entries
        ]
        traffic = entries[0][1].with_constant_result()
        reply = contenders[0].server.ask(traffic.targets[0], lab.authorization)
        bare = launches.bare(reply.body, lab.folder)
        yield [*contenders, Contender(stack.enter_context(lab.serve(bare, traffic)), traffic)]
