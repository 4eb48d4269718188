"""The console of several servers, whose lines are in a database."""

import re
from contextlib import closing
from pathlib import Path

from pexpolicy.audit.database import Database, Shipper
from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.config.loader import load
from tests.audit.places import chained
from tests.support import postgresql
from tests.support.audit_lines import encoded, line
from tests.support.live_console import running_console

COUNT = 40


def ship(config: Path, chain: HashChain, name: str, *numbers: int) -> None:
    """Add lines with these numbers, each a second after the one before, and copy them."""
    lines = ({**line(number)} for number in numbers)
    for one in (written := [*lines]):
        del one["boot_id"], one["seq"], one["hash"]
    path = config.parent / name / "audit.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(chained(chain, *(encoded([one]).rstrip() for one in written)))
    with Database(load(config)) as database, closing(Shipper(database, path, name)) as shipper:
        while shipper.step():
            pass


def test_the_lines_of_several_servers_are_found_by_their_server(
    tmp_path: Path, empty_postgres: postgresql.Server
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[audit]\npath = "audit.jsonl"\n[audit.ship]\n'
        f'url = "{empty_postgres.url}"\npassword_file = "{empty_postgres.folder}/password"\n'
    )
    chains = {name: HashChain(name) for name in ("policy-1", "policy-2")}
    for start, (name, chain) in enumerate(chains.items()):
        ship(config, chain, name, *range(start, COUNT, 2))
    with running_console(config) as running:
        console = running.log_in()
        page = console.eventually("/decisions?requests=1", f"{COUNT} lines since")
        servers = re.findall(r'<td class="more server">policy-(\d)</td>', page)
        assert servers == ["2", "1"] * (COUNT // 2)
        assert f">policy-2</span> <span>{COUNT // 2}</span>" in page
        only = console.get("/decisions?requests=1&instance=policy-2").text
        assert f"{COUNT // 2} lines since" in only
        assert ">policy-1</td>" not in only
        # A line of a server that was away is older than those that are known.
        ship(config, chains["policy-1"], "policy-1", -300)
        console.eventually("/decisions", f"{COUNT + 1} lines since")
        assert "Room -300" in console.get("/decisions?until=2023-11-15T11:55&zone=UTC").text
        console.post("/audit/verify")
        assert "no fault" in console.eventually("/audit", f"in {COUNT + 1} lines, verified")
