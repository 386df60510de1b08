"""A TCP proxy in front of Redis that loses what a network loses; knows no command, only bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 1 << 20  # bytes; a request of these tests fits, so that it is seen whole


def lose(reply: bytes) -> bytes:
    """Swallow a reply."""
    return b""


def keep(passed: bytes) -> bytes:
    """Pass on what came as it came."""
    return passed


@dataclass
class Fault:
    """What happens to the next request that contains `request`, once.

    `reach`: whether it reaches Redis, as what `sent` makes of it. `reply`: what the client gets instead of the reply.
    `cut`: whether the connection then ends, or the client waits for something that never comes. `hold` delays the
    reply, or the cut, until it is set.
    """

    request: bytes = b""
    reach: bool = True
    sent: Callable[[bytes], bytes] = keep
    reply: Callable[[bytes], bytes] = lose
    cut: bool = False
    hold: threading.Event | None = None
    happened: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens on a port of the loopback and passes everything on to a unix socket, but for one armed fault."""

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self.armed: Fault | None = None
        self.connections = 0  # so far
        self.requests: list[bytes] = []  # as they came, a whole round trip in each
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)  # as many may come at once
        self.sockets: list[socket.socket] = [self.listener]
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self._start(self._accept)

    def arm(self, fault: Fault) -> Fault:
        self.armed = fault
        return fault

    def close(self) -> None:
        for mine in self.sockets:
            end(mine)

    def _start(self, run: Callable[..., None], *args: object) -> None:
        threading.Thread(target=run, args=args, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self.upstream))
                self.connections += 1
                self.sockets += [client, server]
                link = Link(self, client, server)
                self._start(link.requests)
                self._start(link.replies)

    def strike(self, request: bytes) -> Fault | None:
        """Return the armed fault if this is its request."""
        self.requests.append(request)
        if self.armed is None or self.armed.request not in request:
            return None
        fault, self.armed = self.armed, None
        return fault


class Link:
    """One connection of a client, and what has gone wrong on it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.fault: Fault | None = None

    def requests(self) -> None:
        with contextlib.suppress(OSError):
            while request := self.client.recv(CHUNK):
                fault = self.proxy.strike(request)
                self.fault = fault or self.fault
                if fault is None or fault.reach:
                    self.server.sendall(fault.sent(request) if fault else request)
                    continue
                if fault.hold is not None:
                    fault.hold.wait()
                fault.happened.set()
                if fault.cut:
                    break
        end(self.client)
        end(self.server)

    def replies(self) -> None:
        with contextlib.suppress(OSError):
            while reply := self.server.recv(CHUNK):
                if self.fault is None:
                    self.client.sendall(reply)
                elif not self._spoil(self.fault, reply):
                    break
        end(self.client)
        end(self.server)

    def _spoil(self, fault: Fault, reply: bytes) -> bool:
        """Send what the fault leaves of a reply; False where the connection ends with it."""
        if fault.hold is not None:
            fault.hold.wait()
        fault.happened.set()
        self.client.sendall(fault.reply(reply))
        return not fault.cut


def end(mine: socket.socket) -> None:
    """Close a socket, whoever still waits on it."""
    with contextlib.suppress(OSError):
        mine.shutdown(socket.SHUT_RDWR)
    mine.close()
