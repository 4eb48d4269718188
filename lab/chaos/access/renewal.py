"""Repeated certificate renewals while nodes connect and call."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509

from lab.chaos.access.nodes import Calling, Calls, Node
from tests.support import certificates, live_server

RENEWAL_TIMEOUT_S = 10.0
"""Seconds until a certificate that is not served counts as lost."""
INVALID_EVERY = 10
"""Every tenth renewal starts with an invalid pair."""


@dataclass
class Renewal:
    """Calls on fresh and reused connections, and the seconds until each certificate was served."""

    fresh: Calls
    reused: Calls
    waits: list[float]
    lost: int

    def wrong(self) -> list[str]:
        """Return a description of each failure."""
        never = [f"{self.lost} certificates were never served"] if self.lost else []
        return self.fresh.wrong() + self.reused.wrong() + never

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        return (
            f"{len(self.waits)} renewals, served after {max(self.waits, default=0):.1f} s at most; "
            f"a handshake for each call: {self.fresh.sentence}; on reused connections: "
            f"{self.reused.sentence}"
        )


def _write(folder: Path, leaf: trustme.LeafCert, number: int) -> None:
    """Replace the pair: either order, in place or by rename, sometimes truncated first."""
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
    files = [("server.pem", chain), ("server.key", leaf.private_key_pem.bytes())]
    if number % 2:
        files.reverse()
    if number % INVALID_EVERY == INVALID_EVERY - 1:
        (folder / "server.pem").write_bytes(chain[: len(chain) // 3])
        time.sleep(0.5)
    for name, content in files:
        if number % 3:
            (folder / f"{name}.new").write_bytes(content)
            (folder / f"{name}.new").replace(folder / name)
        else:
            (folder / name).write_bytes(content)
        time.sleep(0.02)


async def _served_serial(port: int) -> int:
    """Return the serial number of the certificate that a new connection gets."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=certificates.client_context(), server_hostname=certificates.NAME
    )
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate).serial_number


async def _wait_until_served(port: int, leaf: trustme.LeafCert) -> float | None:
    """Return the seconds until a certificate is served, or ``None``."""
    wanted = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
    began = time.perf_counter()
    while (waited := time.perf_counter() - began) < RENEWAL_TIMEOUT_S:
        if await _served_serial(port) == wanted:
            return waited
        await asyncio.sleep(0.05)
    return None


async def renew_repeatedly(
    server: live_server.Running, folder: Path, count: int, headers: dict[str, str]
) -> Renewal:
    """Renew ``count`` times, each time until the new certificate is served."""
    context = certificates.client_context()
    fresh = [Node(server.port, headers, context, reuses=False) for _ in range(3)]
    reusing = [Node(server.port, headers, context) for _ in range(3)]
    waits: list[float] = []
    lost = 0
    async with Calling(fresh) as handshakes, Calling(reusing) as reused:
        for number in range(count):
            leaf = certificates.issue(days=30 + number % 50)
            await asyncio.to_thread(_write, folder, leaf, number)
            waited = await _wait_until_served(server.port, leaf)
            if waited is None:
                lost += 1
            else:
                waits.append(waited)
    return Renewal(handshakes, reused, waits, lost)
