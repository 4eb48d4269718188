"""Launches of the benchmarked servers: pexpolicy as users start it, and the bare one."""

import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
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


def ours(
    name: str, config: Table, password: str, folder: Path, sites: Sequence[Path] = ()
) -> Launch:
    """Return pexpolicy started by its command line, with credentials and an audit file.

    ``sites`` are folders with further installed distributions.
    """
    return _ours(name, config, password, folder, ["-m", "pexpolicy"], sites)


def ours_watched(
    name: str, config: Table, password: str, folder: Path, collections: Path
) -> Launch:
    """Return the same, with garbage collections written to ``collections`` at the end."""
    return _ours(name, config, password, folder, ["-m", "bench.gc_monitor", str(collections)])


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


def _ours(
    name: str,
    config: Table,
    password: str,
    folder: Path,
    program: list[str],
    sites: Sequence[Path] = (),
) -> Launch:
    home = folder / name
    home.mkdir()
    file = home / "config.toml"
    audit = config.get("audit", {})
    assert isinstance(audit, Mapping)
    access = {
        "auth": {"user": USER, "password_env": _PASSWORD_VARIABLE},
        "audit": {"path": "audit.jsonl", **audit},
    }
    file.write_text(rendered({**config, **access}))
    options = ["serve", "--config", str(file), "--admin-port", "0", "--port"]
    return Launch(
        name,
        lambda port: [sys.executable, *program, *options, str(port)],
        environment={
            _PASSWORD_VARIABLE: password,
            "PYTHONPATH": os.pathsep.join(str(site) for site in (installed.site(folder), *sites)),
        },
        audit=home / "audit.jsonl",
        authenticates=True,
        tls="tls" in config,
    )
