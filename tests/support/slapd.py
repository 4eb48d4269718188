"""An LDAP server of our own, on loopback, with its database in a temporary folder."""

import base64
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.support import certificates, programs, secret_canaries
from tests.support.server_process import ServerProcess, free_port

BASE = "dc=example,dc=com"
USER = f"cn=reader,{BASE}"
PASSWORD = secret_canaries.WORD
Entries = Mapping[str, Mapping[str, str | bytes | Sequence[str | bytes]]]
"""Attributes by the DN of an entry; one value, or several."""
ESTABLISHED = "01"
"""The state of a connection in ``/proc/net/tcp``."""
ADMIN = f"cn=admin,{BASE}"
_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'thumbnailPhoto'
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.2 NAME 'proxyAddresses'
  EQUALITY caseExactMatch SUBSTR caseExactSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
modulepath /usr/lib/ldap
moduleload back_mdb
{schema}
TLSCertificateFile server.pem
TLSCertificateKeyFile server.key
sizelimit size.soft=100 size.hard=100 size.prtotal=unlimited
database mdb
suffix {base}
directory .
maxsize 268435456
dbnosync
rootdn {admin}
rootpw "{password}"
index objectClass,mail,uid,cn eq
access to attrs=userPassword by anonymous auth
access to * by users read
"""


def person(uid: str, **values: str | bytes | Sequence[str | bytes]) -> dict[str, Any]:
    """Return the attributes of an entry that may have any attribute."""
    classes = ["inetOrgPerson", "extensibleObject"]
    return {"objectClass": classes, "uid": uid, "sn": uid, "cn": uid, **values}


class Server(ServerProcess):
    """A server that answers those who bind; it returns at most 100 entries at once.

    ``url`` is for StartTLS, ``secure_url`` for LDAPS.
    """

    def __init__(self, folder: Path, entries: Entries | None = None, schema: str = "") -> None:
        installed = programs.require("slapd")
        super().__init__(folder)
        # Ubuntu confines the installed program to its own folders.
        self._program = str(shutil.copy2(installed, folder / "slapd"))
        ports = free_port(), free_port()
        self._addresses = [("127.0.0.1", port) for port in ports]
        self.url = f"ldap://127.0.0.1:{ports[0]}"
        self.secure_url = f"ldaps://127.0.0.1:{ports[1]}"
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD)
        self.ca_file = folder / "ca.pem"
        certificates.write_authority(folder)
        certificates.write_pair(folder, name="127.0.0.1")
        text = _CONFIGURATION.format(base=BASE, admin=ADMIN, password=PASSWORD, schema=schema)
        (folder / "slapd.conf").write_text(text)
        self.own(*folder.iterdir())
        reader = {"objectClass": ["organizationalRole", "simpleSecurityObject"]}
        own: Entries = {
            BASE: {"objectClass": ["organization", "dcObject"], "o": "Example"},
            USER: {**reader, "userPassword": PASSWORD},
        }
        self.add({**own, **(entries or {})})

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the keys of a table ``[sources.NAME]`` for this server."""
        return {
            "url": self.url,
            "base": BASE,
            "user": USER,
            "password_file": str(self.password_file),
            "ca_file": str(self.ca_file),
            **more,
        }

    def add(self, entries: Entries) -> None:
        """Add entries to the database, also while it runs."""
        file = self.folder / "entries.ldif"
        file.write_text("\n".join(line for dn in entries for line in _ldif(dn, entries[dn])))
        self.own(file)
        self.run(self._program, "-T", "add", "-q", "-f", "slapd.conf", "-l", str(file))
        file.unlink()

    @override
    def command(self) -> Sequence[str]:
        listened = f"{self.url} {self.secure_url}"
        return (self._program, "-d", "0", "-f", "slapd.conf", "-h", listened)

    @override
    def is_ready(self) -> bool:
        try:
            for address in self._addresses:
                socket.create_connection(address, 1).close()
        except OSError:
            return False
        return True

    def connections(self) -> int:
        """Return the number of clients that are connected."""
        ports = {f":{port:04X}" for _, port in self._addresses}
        table = Path("/proc/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in table]
        return sum(row[1][-5:] in ports and row[3] == ESTABLISHED for row in rows)


def _ldif(dn: str, values: Mapping[str, str | bytes | Sequence[str | bytes]]) -> Iterator[str]:
    yield f"dn:: {_encoded(dn)}"
    for name, given in values.items():
        for value in [given] if isinstance(given, str | bytes) else given:
            yield f"{name}:: {_encoded(value)}"
    yield ""


def _encoded(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
