"""Serve a built folder as GitHub Pages does: compressed, below a path, with its 404 page."""

import gzip
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMPRESSED = {".css", ".html", ".js", ".json", ".mjs", ".svg", ".txt", ".webmanifest", ".xml"}
mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("font/woff2", ".woff2")


@cache
def sent(path: Path) -> bytes:
    """Return a file's bytes as the host sends them."""
    content = path.read_bytes()
    return gzip.compress(content, 6, mtime=0) if path.suffix in COMPRESSED else content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    below: str

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        address = unquote(urlsplit(self.path).path)
        path = (self.folder / address.removeprefix(self.below)).resolve()
        if path.is_dir():
            path /= "index.html"
        found = (
            address.startswith(self.below) and path.is_relative_to(self.folder) and path.is_file()
        )
        missing = self.folder / "404.html"
        if not found:
            path = missing
        body = sent(path) if path.is_file() else b"not found"
        self.send_response(200 if found else 404)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if kind.startswith("text/") or path.suffix in COMPRESSED:
            kind += "; charset=utf-8"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        if path.is_file() and path.suffix in COMPRESSED:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing, so that the output of the tests stays readable."""


@contextmanager
def hosting(folder: Path, *, below: str = "/") -> Iterator[str]:
    """Serve ``folder`` below a path of this machine; give the address of its start page."""
    handler = type("Handler", (_Handler,), {"folder": folder.resolve(), "below": below})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{below}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
