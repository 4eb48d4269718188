"""A server on loopback that answers each GET over TLS with one body."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import trustme


class Server(HTTPServer):
    """A server that expects clients to abort connections."""

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving(folder: Path, body: bytes) -> Iterator[tuple[str, Path]]:
    """Serve ``body``; gives the URL and the file with the certificate of the CA."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ca = trustme.CA()
    cacert = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(cacert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}", cacert
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
