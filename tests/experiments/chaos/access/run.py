"""One experiment from the start of its server to the end of it."""

from pathlib import Path

from pexpolicy.config.password_hash import PasswordHash
from tests.experiments.chaos.access.flood import Flood, measure_flood
from tests.experiments.chaos.access.password_guessing import (
    GuessingResult,
    count_recorded,
    guess_passwords,
)
from tests.experiments.chaos.access.renewal import Renewal, renew_repeatedly
from tests.experiments.chaos.access.slow import Slow, measure_slow_clients
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
        return await measure_slow_clients(server, clients, patience, GOOD)


async def run_renewal(folder: Path, count: int) -> Renewal:
    """Renewed certificates."""
    certificates.write_pair(folder)
    tls = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'
    with live_server.running(_configured(folder, tls)) as server:
        return await renew_repeatedly(server, folder, count, GOOD)


async def run_password_guessing(folder: Path, seconds: float, connections: int) -> GuessingResult:
    """Guesses."""
    with live_server.running(_configured(folder)) as server:
        seen = await guess_passwords(server, seconds, connections, GOOD)
    seen.on_record = count_recorded(server.lines())
    return seen


async def run_flood(folder: Path, kind: str, attackers: int, seconds: float) -> Flood:
    """Requests with bodies, or with endless heads."""
    with live_server.running(_configured(folder)) as server:
        return await measure_flood(server, kind, attackers, seconds, GOOD)
