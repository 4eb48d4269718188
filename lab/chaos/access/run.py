"""Runs of single experiments, each with a server of its own."""

from pathlib import Path

from lab.chaos.access import admission
from lab.chaos.access.flood import Flood, count_refusals, measure_flood
from lab.chaos.access.newcomers import Newcomers, measure_newcomers
from lab.chaos.access.nodes import missing_decisions, record_problems
from lab.chaos.access.password_guessing import (
    GuessingResult,
    count_recorded,
    guess_passwords,
)
from lab.chaos.access.renewal import Renewal, renew_repeatedly
from lab.chaos.access.slow import Slow, measure_slow_clients
from pexpolicy.config.password_hash import PasswordHash
from tests.support import certificates, live_server, wire

GOOD = wire.basic("pexip", "s3cret")
TLS = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'


def _write_config(folder: Path, also: str = "") -> Path:
    """Write a configuration with a hashed password and a room."""
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


async def run_slow(folder: Path, clients: int, timeout_s: float = 10.0) -> Slow:
    """Run slow clients against a server with ``timeout_s`` seconds per request."""
    limits = f"[limits]\nrequest_seconds = {timeout_s}\n"
    with live_server.running(_write_config(folder, limits)) as server:
        seen = await measure_slow_clients(server, clients, timeout_s, GOOD)
    seen.calls.failed += record_problems(server, seen.calls.ids)
    return seen


async def run_newcomers(
    folder: Path, kind: str, clients: int, calls: int, round_trip_s: float, limits: str = ""
) -> Newcomers:
    """Run first calls while strangers of one of ``newcomers.SENT`` hold connections."""
    tls = ""
    if kind.endswith("tls"):
        certificates.write_pair(folder)
        tls = TLS
    with live_server.running(_write_config(folder, f"{tls}{limits}")) as server:
        seen = await measure_newcomers(server, kind, clients, calls, round_trip_s, GOOD)
    seen.record_problems = record_problems(server, seen.ids)
    return seen


async def run_renewal(folder: Path, count: int) -> Renewal:
    """Run certificate renewals."""
    certificates.write_pair(folder)
    with live_server.running(_write_config(folder, TLS)) as server:
        return await renew_repeatedly(server, folder, count, GOOD)


async def run_password_guessing(folder: Path, seconds: float, connections: int) -> GuessingResult:
    """Run password guessing."""
    with live_server.running(_write_config(folder)) as server:
        seen = await guess_passwords(server, seconds, connections, GOOD)
    seen.on_record = count_recorded(server.lines())
    answered = seen.elsewhere.ids + seen.same_address.ids
    seen.elsewhere.failed += record_problems(server, answered)
    return seen


async def run_flood(folder: Path, kind: str, attackers: int, seconds: float) -> Flood:
    """Run a flood of one of ``flood.KINDS``."""
    tls = ""
    if kind == "handshakes":
        certificates.write_pair(folder)
        tls = TLS
    with live_server.running(_write_config(folder, tls)) as server:
        flood = await measure_flood(server, kind, attackers, seconds, GOOD)
    flood.on_record = count_refusals(server, kind)
    answered = flood.quiet.ids + flood.calls.ids
    flood.missing = missing_decisions(server, answered)
    flood.record_problems = record_problems(server, answered)
    return flood


def _write_two_users(folder: Path) -> Path:
    """Write a configuration with two users and a room."""
    for user, password in admission.USERS.items():
        (folder / user).write_text(password)
    users = "".join(
        f'[[auth.credentials]]\nuser = "{user}"\npassword_file = "{user}"\n'
        for user in admission.USERS
    )
    config = folder / "config.toml"
    config.write_text(f"""
{users}
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.engineering]
name = "Engineering"
""")
    return config


async def run_credentials(folder: Path, at_once: int = 20) -> admission.Admission:
    """Try credentials that are not right."""
    with live_server.running(_write_two_users(folder)) as server:
        return await admission.try_credentials(server, at_once)


async def run_changes(folder: Path, connections: int, seed: int) -> admission.Admission:
    """Change credentials on open connections."""
    with live_server.running(_write_two_users(folder)) as server:
        return await admission.change_credentials(server, connections, seed)


async def run_pipelined(folder: Path, count: int) -> admission.Admission:
    """Pipeline requests."""
    with live_server.running(_write_two_users(folder)) as server:
        return await admission.pipeline(server, count)
