"""The socket, the clients that are slow, and Ctrl-C: what uvicorn is asked for besides running an
application.

Read next: `app.py`, the application.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...door.errors import ArgumentError
from .limits import CONNECTIONS, HEADING, ServerLimits
from .refused import Refused

STOPPING = 3.0                         # seconds that replies may take to end when the server is stopped
HEADERS = 32_768                       # bytes that the headers of a request may have


def is_local(host: str) -> bool:
    """Whether nobody but programs on this machine reaches an address. Raises ArgumentError for what is
    none."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ArgumentError(f"--host is {host!r}; it must be an address such as 127.0.0.1, or 0.0.0.0 "
                            "for every network that this machine is on") from None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: one that the system chooses. Raises ArgumentError."""
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise ArgumentError(f"cannot listen on {host}, port {port}: {error.strerror}; give another "
                            "--port") from None


class Impatient(H11Protocol):
    """uvicorn's protocol, with an end to patience: a connection is closed when headers do not come, when
    a request takes longer than any may, and when there are too many connections."""
    seconds = 0.0                          # from the headers of a request to the last byte of its reply
    _watch: asyncio.TimerHandle | None = None
    _busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:         # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._allow(HEADING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._allow(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and not self._busy:
            self._allow(self.seconds)
        self._busy = busy

    def on_response_complete(self) -> None:
        self._busy = False
        self._allow(HEADING)
        super().on_response_complete()

    def _allow(self, seconds: float | None) -> None:
        """The connection may go on so long; None: without a clock."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch = None
        if seconds is not None:
            self._watch = self.loop.call_later(seconds, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused in the protocol's form too."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):         # a reply is under way
            return self.transport.abort()
        body = json.dumps(Refused(msg, code="invalid_http").document).encode()
        head = h11.Response(status_code=400, reason=b"Bad Request", headers=[
            (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
            (b"connection", b"close")])
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


def protocol(limits: ServerLimits) -> type[Impatient]:
    """The protocol of a server with these limits: reading, waiting, answering, and a slow client."""
    return type("Impatient", (Impatient,), {"seconds": limits.seconds + 3 * limits.reading})


class Listening(uvicorn.Server):
    """uvicorn's server, which tells when it stops and ends without raising its signals anew."""

    def __init__(self, app: Starlette, limits: ServerLimits, stopping: Callable[[], None]):
        super().__init__(uvicorn.Config(
            app, http=protocol(limits), ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=int(HEADING),
            timeout_graceful_shutdown=int(STOPPING), h11_max_incomplete_event_size=HEADERS))
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()                             # or running answers would be waited for
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the server, and the program goes on behind `run`."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {one: signal.signal(one, self.handle_exit)
                                  for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
