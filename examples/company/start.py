"""Servers of the example, filled with generated data: slapd, PostgreSQL and a file of rooms."""

import argparse
import csv
import io
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support import live_server, postgresql, slapd

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).parent / "pexpolicy"
LDAP = "ldap://ldap.example.com"
DATABASE = "postgresql://pexpolicy@/postgres?host=/run/postgresql"
DEVICES = "CREATE TABLE devices (alias text PRIMARY KEY, username text, password text)"
BATCH = 500
"""Devices of one statement, which is an argument of a command."""
SYLLABLES = ("ba", "do", "fe", "ki", "lu", "mo", "na", "pi", "ro", "su", "te", "vu")
SITES = ("Oslo", "Bergen")
PICTURED = 7
"""Last digit of the numbers of people with a picture."""


@contextmanager
def company(folder: Path, *, rooms: int, people: int, devices: int) -> Iterator[Path]:
    """Start the servers, fill them, and yield the configuration; files are made in ``folder``."""
    chance = random.Random(1)  # noqa: S311 - the same company each time
    with postgresql.Server.running() as database, slapd.Server.running() as ldap:
        _write(folder / "database-password", postgresql.PASSWORD)
        _write(folder / "ldap-password", slapd.PASSWORD)
        _write(folder / "ldap-ca.pem", ldap.ca_file.read_text())
        config = (HERE / "config.toml").read_text()
        for written, real in ((LDAP, ldap.url), (DATABASE, database.url)):
            assert written in config
            config = config.replace(written, real)
        _write(folder / "config.toml", config)
        _table(folder / "rooms.csv", (_room(number) for number in range(rooms)))
        photo = _photo()
        ldap.add({f"uid=p{n},{slapd.BASE}": _person(n, chance, photo) for n in range(people)})
        database.execute(DEVICES)
        for first in range(0, devices, BATCH):
            rows = (_device(number) for number in range(first, min(first + BATCH, devices)))
            values = ",".join(
                "('{alias}', '{username}', '{password}')".format_map(row) for row in rows
            )
            database.execute(f"INSERT INTO devices VALUES {values}")  # noqa: S608 - made here
        yield folder / "config.toml"


def run(*arguments: str, folder: Path) -> str:
    """Run a command of pexpolicy in a folder, and return its output; fail with that."""
    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _room(number: int) -> dict[str, str]:
    room: dict[str, str] = {
        "aliases": f"Room{number}@Example.com {20000 + number}",
        "name": f"Room {number}",
        "pin": f"{(number * 7919) % 10**6:06}",
        "service_type": "lecture" if number % 50 == 1 else "",
        "allow_guests": "true" if number % 3 == 0 else "",
    }
    return room


def _device(number: int) -> dict[str, str]:
    password = f"{random.Random(number).getrandbits(60):x}"  # noqa: S311 - of an example
    alias, username = f"device{number}@example.com", f"{SITES[number % 2]} {number}"
    return {"alias": alias, "username": username, "password": password}


def _photo() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((96, 96)).save(out, "JPEG")
    return out.getvalue()


def _person(number: int, chance: random.Random, photo: bytes) -> Mapping[str, Any]:
    first, last = ("".join(chance.choices(SYLLABLES, k=3)).capitalize() for _ in range(2))
    return {
        "objectClass": "inetOrgPerson",
        "uid": f"p{number}",
        "cn": f"{first} {last}",
        "sn": last,
        "displayName": f"{first} {last}",
        "mail": f"Person{number}@Example.com",
        "ou": SITES[number % 2],
        **({"jpegPhoto": photo} if number % 10 == PICTURED else {}),
    }


def _table(path: Path, rows: Iterator[dict[str, str]]) -> None:
    path.touch(mode=0o600)
    with path.open("w", newline="") as file:
        first = next(rows)
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def main() -> int:
    """Read the options; serve until Ctrl-C, or only check."""
    options = argparse.ArgumentParser(prog="python -m examples.company.start", description=__doc__)
    options.add_argument("--rooms", type=int, default=2_000)
    options.add_argument("--people", type=int, default=20_000)
    options.add_argument("--devices", type=int, default=5_000)
    options.add_argument("--check", action="store_true", help="run check and conformance, and end")
    given = options.parse_args()
    sizes = {name: getattr(given, name) for name in ("rooms", "people", "devices")}
    with tempfile.TemporaryDirectory(prefix="company-") as made:
        folder = Path(made)
        with company(folder, **sizes) as config:
            print(run("check", "--strict", folder=folder), end="", flush=True)  # noqa: T201
            if not given.check:
                command = [str(COMMAND), "serve", "--config", str(config)]
                return subprocess.run(command, cwd=folder, check=False).returncode  # noqa: S603
            with live_server.running(config, folder=folder) as server:
                print(run("conformance", server.url, folder=folder), end="")  # noqa: T201
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
