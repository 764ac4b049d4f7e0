"""
Forward bytes between client and replica with as little overhead as possible.

It uses asyncio protocols instead of streams: a token takes one call, and the tokens of ten replicas take a few percent
of a core.
"""

import asyncio

from tidegate.sandbox.front.balance import Backend, Backends

PATIENCE_S = 60.0
_BODY = b'{"error": {"message": "no replica is ready", "type": "ServiceUnavailableError", "code": 503}}'
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + f"Content-Length: {len(_BODY)}\r\n\r\n".encode()
    + _BODY
)


class Front:
    """
    A listener on one address.

    Args:
        backends: The replicas behind it.
        patience_s: How long a connection waits for a replica if none is ready.
    """

    def __init__(self, backends: Backends, *, patience_s: float = PATIENCE_S) -> None:
        self.backends, self.patience_s = backends, patience_s
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Start to listen; returns the port (0 picks a free one)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the listener; open connections continue until they end."""
        if self._server is not None:
            self._server.close()


class _Side(asyncio.Protocol):
    """One side of a connection; what it reads is written to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: _Side | None = None
        self._held: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)
        else:
            self._held.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            # Forward a reset as a reset, so that a client does not take half an answer for a complete one.
            self.peer.transport.abort() if exc is not None else self.peer.transport.close()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def join(self, peer: "_Side") -> None:
        """Forward to `peer` from now on, beginning with the data received so far."""
        self.peer = peer
        assert peer.transport is not None, "it is connected"
        for data in self._held:
            peer.transport.write(data)
        self._held.clear()


class _Replica(_Side):
    """The replica's side."""

    def __init__(self, front: Front, backend: Backend) -> None:
        super().__init__()
        self._front, self._backend = front, backend
        front.backends.opened(backend)

    def eof_received(self) -> bool:
        """False: when the replica has sent everything, its side is closed, and with it the client's."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.backends.closed(self._backend)
        super().connection_lost(exc)


class _Client(_Side):
    """The client's side; it looks for a replica."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self._front = front
        self._search: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._search = asyncio.get_running_loop().create_task(self._connect())

    def eof_received(self) -> bool:
        """True: a client that has sent everything still reads. While it waits for a replica, EOF means that it left."""
        if self.peer is None or self.peer.transport is None:
            return False
        self.peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._search is not None:
            self._search.cancel()
        super().connection_lost(exc)

    async def _connect(self) -> None:
        assert self.transport is not None, "made"
        backend = await self._front.backends.next(self._front.patience_s)
        if backend is None:
            self._refuse()
            return
        replica = _Replica(self._front, backend)
        try:
            await asyncio.get_running_loop().create_connection(lambda: replica, *backend)
        except OSError:
            self._front.backends.closed(backend)
            self._refuse()
            return
        except asyncio.CancelledError:
            if replica.transport is None:
                self._front.backends.closed(backend)
            else:
                replica.transport.abort()
            raise
        replica.join(self)
        self.join(replica)

    def _refuse(self) -> None:
        assert self.transport is not None, "made"
        self.transport.write(REFUSAL)
        self.transport.close()
