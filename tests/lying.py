"""A proxy in front of a real service that lies about some likes: what a certificate must notice."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes]
Lie = Callable[[Callable[[], Answer]], Answer | None]
"""What to answer to a like; it gets the way to the service. None: hang up."""


def lose(_forward: Callable[[], Answer]) -> Answer:
    """Say that it is counted, and forget it."""
    return 202, b"{}"


def double(forward: Callable[[], Answer]) -> Answer:
    """Send it twice."""
    forward()
    return forward()


def hang_up(forward: Callable[[], Answer]) -> None:
    """Send it, and keep the answer."""
    forward()


class Proxy:
    """Listens on `port` until stopped; every `every`th like is treated by `lie`. `likes`: how many came."""

    def __init__(self, service: int, lie: Lie, every: int) -> None:
        self.likes = 0
        self._service, self._lie, self._every = service, lie, every
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer | None:
        def forward() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self._service, timeout=10)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            connection.close()
            return status, content

        return self._lie(forward) if path.endswith("/like") and self._chosen() else forward()

    def _chosen(self) -> bool:
        with self._lock:
            self.likes += 1
            return self.likes % self._every == 0

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kept = {
                    name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
                }
                answer = proxy.answer(self.command, self.path, body, kept)
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any  # noqa: N815 (the names that http.server calls)

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        return Handler
