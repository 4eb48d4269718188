"""How the servers of the benchmark are started: ours as its users start it, and the bare one."""

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
    """The config.toml that the project ships."""
    return tomllib.loads((ROOT / "config.toml").read_text())


def with_plugins(config: Table, plugins: Mapping[str, Table]) -> dict[str, object]:
    """``config`` with the tables of ``plugins`` added to, or in the place of, its own."""
    own = config.get("plugins", {})
    assert isinstance(own, Mapping)
    return {**config, "plugins": {**own, **plugins}}


def ours(
    name: str, config: Table, password: str, folder: Path, sites: Sequence[Path] = ()
) -> Launch:
    """Our server by its command line, credentials required, audit to a file.

    ``sites`` are folders with further installed distributions.
    """
    return _ours(name, config, password, folder, ["-m", "pexpolicy"], sites)


def ours_watched(
    name: str, config: Table, password: str, folder: Path, collections: Path
) -> Launch:
    """The same, with garbage collections written to ``collections`` when it ends."""
    return _ours(name, config, password, folder, ["-m", "bench.gcwatch", str(collections)])


def bare(
    reply: bytes, folder: Path, name: str = "bare", pair: tuple[Path, Path] | None = None
) -> Launch:
    """The bare aiohttp program, answering ``reply``; over TLS with a certificate and its key."""
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
