"""The lab: cores, credentials, a working folder and a log for a scenario."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import launches, load
from bench.servers import Launch, Server, running
from bench.toml import Table
from bench.traffic import Traffic, authorization, write_for_wrk


@dataclass(frozen=True)
class Terms:
    """Size of a comparison: rounds, seconds each, connections per contender."""

    rounds: int = 12
    seconds: int = 2
    connections: int = 64


@dataclass(frozen=True)
class Lab:
    """The setup for one scenario; ``folder`` is empty at first."""

    folder: Path
    terms: Terms
    serving_core: int
    loading_core: int
    password: str
    log: Callable[[str], None]

    @property
    def authorization(self) -> str:
        """Return the Authorization header of every call."""
        return authorization(self.password)

    def ours(self, name: str, config: Table, *, auth: bool = True) -> Launch:
        """Return pexpolicy with ``config``, an audit file, and credentials unless told not to."""
        return launches.ours(name, config, self.password, self.folder, auth=auth)

    def serve(self, launch: Launch, traffic: Traffic) -> AbstractContextManager[Server]:
        """Start a server and wait until it is ready for ``traffic``."""
        return running(
            launch,
            target=traffic.targets[0],
            authorization=self.authorization,
            core=self.serving_core,
            log=self.folder / f"{launch.name}.log",
        )

    def target(self, server: Server, traffic: Traffic) -> load.Target:
        """Write the calls for ``server`` and return it as a target of wrk."""
        path = self.folder / f"{server.launch.name}.calls"
        write_for_wrk(traffic, self.password, path)
        return load.Target(server.launch.name, server.port, path, tls=server.launch.tls)

    def load(self, targets: list[load.Target], seconds: int) -> dict[str, load.Totals]:
        """Load all ``targets`` at once and return totals by name."""
        return load.run(
            targets, seconds=seconds, connections=self.terms.connections, core=self.loading_core
        )
