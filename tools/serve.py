"""Serve a folder on this machine and open it in a browser.

Usage: python tools/serve.py FOLDER [PORT]
"""

import sys
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def main(folder: str, port: int = 8000) -> None:
    """Serve until interrupted, on ``port`` or, if it is taken, on any free one."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://localhost:{server.server_port}/"
    print(f"Serving {folder} at {address} (Ctrl+C stops it)", flush=True)
    webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
