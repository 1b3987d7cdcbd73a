"""A web server of one folder, on loopback: ranges, listings, passwords, and what it was asked."""

from __future__ import annotations

import base64
import contextlib
import html
import http.server
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path


class Web:
    """What the server serves, and what arrived: (path with query, credentials)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.login: str | None = None  # `user:password` that is asked for
        self.token: str | None = None  # a query parameter `token` that is asked for
        self.broken: set[str] = set()  # paths that are answered with an error
        self.asked: list[tuple[str, str]] = []
        self.host = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Web]:
    web = Web(folder)
    handler = type("Handler", (_Handler,), {"web": web})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    web.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    web: Web

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path, _, query = self.path.partition("?")
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        login = base64.b64decode(credentials).decode() if scheme == "Basic" else ""
        self.web.asked.append((self.path, login))
        token = urllib.parse.parse_qs(query).get("token", [""])[0]
        target = self.web.folder / urllib.parse.unquote(path).strip("/")
        if path in self.web.broken:
            self._send(500, b"")
        elif login != (self.web.login or login) or token != (self.web.token or token):
            self._send(401, b"")
        elif target.is_dir():
            self._send(200, _listing(target) if with_body else b"", "text/html")
        elif target.is_file():
            self._file(target.read_bytes(), with_body=with_body)
        else:
            self._send(404, b"")

    def _file(self, data: bytes, *, with_body: bool) -> None:
        wanted = self.headers.get("Range", "")
        if not (with_body and wanted.startswith("bytes=")):
            self._send(200, data, length=len(data), body=with_body)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(206, part, headers={"Content-Range": span})

    def _send(
        self,
        code: int,
        data: bytes,
        kind: str = "application/octet-stream",
        *,
        length: int | None = None,
        body: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *words: object) -> None:
        pass


def _listing(folder: Path) -> bytes:
    names = (f"{path.name}/" if path.is_dir() else path.name for path in sorted(folder.iterdir()))
    links = "".join(f'<a href="{urllib.parse.quote(n)}">{html.escape(n)}</a>' for n in names)
    return f"<html><body>{links}</body></html>".encode()
