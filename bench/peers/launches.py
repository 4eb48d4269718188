"""Launches of the peers, whose dependencies are installed at first use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.servers import ROOT, Launch

_HERE = Path(__file__).parent
_EXPRESS = _HERE / "express"
_LOCK = _HERE / "requirements.lock"
_NODE_CHECKS = "node is not installed; on Debian: apt-get install nodejs npm"
_DJANGO, _FLASK = "bench.peers.django_site:application", "bench.peers.flask_app:application"
GUNICORN = ["-m", "gunicorn", "--workers", "1", "--worker-class", "gthread", "--threads", "8"]
UVICORN = ["-m", "uvicorn", "--no-access-log", "--log-level", "warning"]


class PeersMissing(RuntimeError):
    """The dependencies of the peers cannot be installed."""


def django(folder: Path, password: str, *, rows: bool = False) -> Launch:
    """Django and gunicorn; ``rows`` looks rooms up through the ORM, in SQLite."""
    name = "django-orm" if rows else "django"
    database = folder / "rooms.sqlite3"
    environment = {"PEER_DATABASE": str(database)} if rows else {}
    launch = _python(name, folder, password, [*GUNICORN, "--keep-alive", "60"], environment)
    if rows and not database.exists():
        fill = ["-c", "from bench.peers import django_site; django_site.fill()"]
        surroundings = {**os.environ, **launch.environment}
        subprocess.run([_interpreter(), *fill], cwd=ROOT, env=surroundings, check=True)
    return launch


def flask(folder: Path, password: str) -> Launch:
    """Flask and gunicorn."""
    options = [*GUNICORN, "--keep-alive", "60"]
    return _python("flask", folder, password, options, application=_FLASK)


def fastapi(folder: Path, password: str, *, tuned: bool = False) -> Launch:
    """FastAPI and uvicorn, as documented or tuned."""
    which = "tuned" if tuned else "documented"
    application = f"bench.peers.fastapi_app:{which}"
    return _python(f"fastapi-{which}", folder, password, UVICORN, application=application)


def express(folder: Path, password: str) -> Launch:
    """Express and pino, on the node that is installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise PeersMissing(_NODE_CHECKS)
    if not (_EXPRESS / "node_modules").is_dir():
        subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=_EXPRESS, check=True)
    audit = folder / "express.jsonl"
    audit.touch()
    program = [node, str(_EXPRESS / "server.mjs")]
    return Launch(
        "express",
        lambda port: [*program, str(port), str(audit)],
        environment={"PEER_PASSWORD": password, "NODE_ENV": "production"},
        audit=audit,
        authenticates=True,
    )


def _python(
    name: str,
    folder: Path,
    password: str,
    options: list[str],
    environment: dict[str, str] | None = None,
    application: str = _DJANGO,
) -> Launch:
    audit = folder / f"{name}.jsonl"
    audit.touch()
    where = "--bind" if options[1] == "gunicorn" else "--port"
    prefix = "127.0.0.1:" if where == "--bind" else ""
    program = [_interpreter(), *options]
    return Launch(
        name,
        lambda port: [*program, where, f"{prefix}{port}", application],
        environment={
            "PEER_PASSWORD": password,
            "PEER_AUDIT": str(audit),
            **(environment or {}),
        },
        audit=audit,
        authenticates=True,
    )


def _interpreter() -> str:
    """Return the Python of the peers' environment, which is created if missing."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    environment = ROOT / f".venv-peers-{version}"
    python = environment / "bin" / "python"
    ready = environment / f"{_LOCK.stat().st_mtime_ns}"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(_LOCK)]
        subprocess.run(pip, check=True)
        ready.touch()
    return str(python)
