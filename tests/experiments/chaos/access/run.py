"""One experiment from the start of its server to the end of it."""

from pathlib import Path

from pexpolicy.config.password_hash import PasswordHash
from tests.experiments.chaos.access.besiege import Siege, besiege, recorded
from tests.experiments.chaos.access.flood import Flood, flooded
from tests.experiments.chaos.access.renewal import Renewal, again_and_again
from tests.experiments.chaos.access.slow import Slow, besides
from tests.support import certificates, live_server, wire

GOOD = wire.basic("pexip", "s3cret")


def _configured(folder: Path, also: str = "") -> Path:
    """A configuration with a hashed password, and rooms to ask for."""
    config = folder / "config.toml"
    hashed = PasswordHash.create("s3cret")
    config.write_text(f"""
[[auth.credentials]]
user = "pexip"
password_hash = "{hashed}"
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.engineering]
name = "Engineering"
{also}
""")
    return config


async def run_slow(folder: Path, clients: int, patience: float = 10.0) -> Slow:
    """Slow clients, and a server that is patient for so many seconds."""
    limits = f"[limits]\nrequest_seconds = {patience}\n"
    with live_server.running(_configured(folder, limits)) as server:
        return await besides(server, clients, patience, GOOD)


async def run_renewal(folder: Path, count: int) -> Renewal:
    """Renewed certificates."""
    certificates.write_pair(folder)
    tls = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'
    with live_server.running(_configured(folder, tls)) as server:
        return await again_and_again(server, folder, count, GOOD)


async def run_besiege(folder: Path, seconds: float, connections: int) -> Siege:
    """Guesses."""
    with live_server.running(_configured(folder)) as server:
        seen = await besiege(server, seconds, connections, GOOD)
    seen.on_record = recorded(server.lines())
    return seen


async def run_flood(folder: Path, kind: str, attackers: int, seconds: float) -> Flood:
    """Requests with bodies, or with endless heads."""
    with live_server.running(_configured(folder)) as server:
        return await flooded(server, kind, attackers, seconds, GOOD)
