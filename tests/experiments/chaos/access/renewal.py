"""Certificates that are renewed again and again, while nodes shake hands and call."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509

from tests.experiments.chaos.access.nodes import Calling, Calls, Node
from tests.support import certificates, live_server

PATIENCE = 10.0
"""Seconds until a certificate that is not served counts as lost."""
SPOILT = 10
"""Each so many-th renewal is a bad pair at first."""


@dataclass
class Renewal:
    """What was seen: the nodes' calls, and how long each new certificate took to be served."""

    fresh: Calls
    kept: Calls
    waits: list[float]
    lost: int

    def wrong(self) -> list[str]:
        """What must not have happened."""
        never = [f"{self.lost} certificates were never served"] if self.lost else []
        return self.fresh.wrong() + self.kept.wrong() + never

    @property
    def sentence(self) -> str:
        """All figures in one line."""
        return (
            f"{len(self.waits)} renewals, served after {max(self.waits, default=0):.1f} s at most; "
            f"a handshake for each call: {self.fresh.sentence}; on connections that are kept: "
            f"{self.kept.sentence}"
        )


def _write(folder: Path, leaf: trustme.LeafCert, number: int) -> None:
    """Replace the pair in one of the ways in which that is done."""
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
    files = [("server.pem", chain), ("server.key", leaf.private_key_pem.bytes())]
    if number % 2:
        files.reverse()
    if number % SPOILT == SPOILT - 1:
        (folder / "server.pem").write_bytes(chain[: len(chain) // 3])
        time.sleep(0.5)
    for name, content in files:
        if number % 3:
            (folder / f"{name}.new").write_bytes(content)
            (folder / f"{name}.new").replace(folder / name)
        else:
            (folder / name).write_bytes(content)
        time.sleep(0.02)


async def _served(port: int) -> int:
    """The serial number of the certificate that a new connection gets."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=certificates.trusting(), server_hostname=certificates.NAME
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def _awaited(port: int, leaf: trustme.LeafCert) -> float | None:
    """The seconds until a certificate is served, or ``None``."""
    wanted = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
    began = time.perf_counter()
    while (waited := time.perf_counter() - began) < PATIENCE:
        if await _served(port) == wanted:
            return waited
        await asyncio.sleep(0.05)
    return None


async def renew_repeatedly(
    server: live_server.Running, folder: Path, count: int, headers: dict[str, str]
) -> Renewal:
    """Renew so often, each time until the new certificate is served."""
    context = certificates.trusting()
    fresh = [Node(server.port, headers, context, keeps=False) for _ in range(3)]
    kept = [Node(server.port, headers, context) for _ in range(3)]
    waits: list[float] = []
    lost = 0
    async with Calling(fresh) as handshaking, Calling(kept) as keeping:
        for number in range(count):
            leaf = certificates.issued(days=30 + number % 50)
            await asyncio.to_thread(_write, folder, leaf, number)
            waited = await _awaited(server.port, leaf)
            if waited is None:
                lost += 1
            else:
                waits.append(waited)
    return Renewal(handshaking, keeping, waits, lost)
