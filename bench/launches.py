"""Launches of the benchmarked servers: pexpolicy as users start it, and the bare one."""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from bench import installed
from bench.servers import ROOT, Launch
from bench.toml import Table, rendered
from bench.traffic import USER

_PASSWORD_VARIABLE = "PEXPOLICY_PASSWORD"


def shipped_config() -> dict[str, object]:
    """Return the shipped config.toml."""
    return tomllib.loads((ROOT / "config.toml").read_text())


def with_plugins(config: Table, plugins: Mapping[str, Table]) -> dict[str, object]:
    """Return ``config`` with the tables of ``plugins`` added or replaced."""
    own = config.get("plugins", {})
    assert isinstance(own, Mapping)
    return {**config, "plugins": {**own, **plugins}}


def bare(
    reply: bytes, folder: Path, name: str = "bare", pair: tuple[Path, Path] | None = None
) -> Launch:
    """Return the bare aiohttp program answering ``reply``, over TLS if given a certificate."""
    body = folder / f"{name}.json"
    body.write_bytes(reply)
    tls = [str(path) for path in pair or ()]
    return Launch(
        name,
        lambda port: [sys.executable, "-m", "bench.bare", str(port), str(body), *tls],
        tls=bool(tls),
    )


def ours(name: str, config: Table, password: str, folder: Path, *, auth: bool = True) -> Launch:
    """Return pexpolicy started by its command line, with an audit file, and with credentials."""
    home = folder / name
    home.mkdir()
    file = home / "config.toml"
    audit = config.get("audit", {})
    assert isinstance(audit, Mapping)
    access = {"auth": {"user": USER, "password_env": _PASSWORD_VARIABLE}} if auth else {}
    file.write_text(rendered({**config, **access, "audit": {"path": "audit.jsonl", **audit}}))
    options = ["serve", "--config", str(file), "--admin-port", "0", "--port"]
    return Launch(
        name,
        lambda port: [sys.executable, "-m", "pexpolicy", *options, str(port)],
        environment={
            _PASSWORD_VARIABLE: password,
            "PYTHONPATH": str(installed.site(folder)),
        },
        audit=home / "audit.jsonl",
        authenticates=auth,
        tls="tls" in config,
    )
