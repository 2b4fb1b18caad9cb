"""What a connection may cost before anybody knows who it is, and how many there may be.

Owns the bounds that HTTP servers usually leave open: connections in all and of one
address, the time that a TLS handshake, a request's head and the reading of an answer may take, and
the bytes of a head in all. Whoever oversteps one is hung up on; others don't notice.

Ordering: a connection counts from the moment it is accepted, before its handshake, until its socket is
closed. Times are looked at together, once a period, so that a request costs no timer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web

_RESET: Final = struct.pack("ii", 1, 0)
"""Linger for no time: the connection is reset, and no state of it stays."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The bounds. The front proxy keeps some dozens of connections; an API server has one address."""

    connections_max: int = 512
    connections_of_address_max: int = 256
    handshake_seconds_max: float = 10.0
    silence_seconds_max: float = 30.0
    """A fresh connection may stay without a byte for so long: clients connect in advance."""
    head_seconds_max: float = 10.0
    """From the first byte of a request to the last of its head."""
    head_bytes_max: int = 1 << 17
    """A line and headers together, or what is sent after them without being asked for."""
    stall_seconds_max: float = 30.0
    """An answer that nobody reads for so long is given up."""
    check_seconds: float = 1.0


class ConnectionLimiter:
    """Counts the connections of one port and watches each of them."""

    def __init__(
        self, limits: ConnectionLimits, on_refused: Callable[[str], None] = lambda _reason: None
    ) -> None:
        self.limits: Final = limits
        self._on_refused = on_refused
        self._by_address: Counter[str] = Counter()
        self._guards: dict[asyncio.BaseProtocol, _Guard] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many are open, those in their handshake among them."""
        return self._by_address.total()

    def admit(self, address: str) -> bool:
        """Count a connection from `address`; False, and nothing counted, if there are too many."""
        if self.connections >= self.limits.connections_max:
            self._on_refused("too-many")
            return False
        if self._by_address[address] >= self.limits.connections_of_address_max:
            self._on_refused("too-many-of-one-address")
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection no more."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def guard(self, handler: asyncio.Protocol) -> asyncio.Protocol:
        """`handler`, watched: what stands between a transport and the server's own protocol."""
        return _Guard(self, handler)

    @web.middleware
    async def note_head(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Take note that a request's head is whole. Put it first among the middlewares."""
        guard = self._guards.get(cast("asyncio.BaseProtocol", request.protocol))
        if guard is not None:
            guard.head_is_whole()
        return await handler(request)

    def enter(self, handler: asyncio.BaseProtocol, guard: _Guard) -> None:
        """Watch a connection."""
        self._guards[handler] = guard
        if self._timer is None:
            self._schedule()

    def forget(self, handler: asyncio.BaseProtocol) -> None:
        """Watch a connection no more."""
        self._guards.pop(handler, None)

    def refuse(self, transport: asyncio.Transport, reason: str) -> None:
        """Hang up on whoever is at the other end."""
        self._on_refused(reason)
        transport.abort()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.limits.check_seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for guard in tuple(self._guards.values()):
            guard.check(now)
        if self._guards:
            self._schedule()


class _Guard(asyncio.Protocol):
    """Passes everything on to the server's protocol, and measures."""

    def __init__(self, limiter: ConnectionLimiter, handler: asyncio.Protocol) -> None:
        self._limiter = limiter
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._silent_since: float | None = None
        self._head_since: float | None = None
        self._stalled_since: float | None = None
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._silent_since = self._loop.time()
        self._limiter.enter(self._handler, self)
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limiter.forget(self._handler)
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._silent_since = None
        if self._head_since is None:
            self._head_since = self._loop.time()
        self._bytes += len(data)
        if self._bytes > self._limiter.limits.head_bytes_max and self._transport is not None:
            self._limiter.refuse(self._transport, "giant-head")
            return
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._stalled_since = self._loop.time()
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        self._handler.resume_writing()

    def head_is_whole(self) -> None:
        """What follows belongs to the next request."""
        self._head_since = None
        self._bytes = 0

    def check(self, now: float) -> None:
        """Hang up if something has taken too long."""
        limits = self._limiter.limits
        for since, seconds_max, reason in (
            (self._silent_since, limits.silence_seconds_max, "silent"),
            (self._head_since, limits.head_seconds_max, "slow-head"),
            (self._stalled_since, limits.stall_seconds_max, "slow-reader"),
        ):
            if since is not None and now - since > seconds_max and self._transport is not None:
                self._limiter.refuse(self._transport, reason)
                return


class _CountedSocket(socket.socket):
    """A connection that is counted until it is closed."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        if self.on_close is not None:
            on_close, self.on_close = self.on_close, None
            on_close()


class LimitedListener(socket.socket):
    """A listening socket that hands out no more connections than its limiter admits."""

    limiter: ConnectionLimiter

    def accept(self) -> tuple[socket.socket, object]:
        """The next connection.

        Raises:
            ConnectionAbortedError: the next one was refused; the event loop takes that for none and comes back.
        """
        descriptor, peer = cast("tuple[int, Sequence[object]]", self._accept())  # type: ignore[attr-defined]
        connection = _CountedSocket(self.family, self.type, self.proto, fileno=descriptor)
        address = str(peer[0])
        if not self.limiter.admit(address):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()
            raise ConnectionAbortedError(f"too many connections, the next one from {address} was refused")
        connection.on_close = lambda: self.limiter.leave(address)
        return connection, peer


def listen(host: str, port: int, limiter: ConnectionLimiter) -> list[LimitedListener]:
    """One listening socket for each address that `host` stands for.

    Raises:
        OSError: an address is taken or not ours.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[LimitedListener] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = LimitedListener(family, kind, protocol)
            listeners.append(listener)
            listener.limiter = limiter
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
