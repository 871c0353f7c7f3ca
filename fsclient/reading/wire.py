"""One connection to one Redis server, shared by all calls of an event loop.

A call does not own the connection: its commands join the stream, and replies come in the same order, so calls that
overlap travel together and a cancelled call takes nothing with it. Its reply is read and dropped when it comes. (A
pool lends a connection to one call at a time: 64 calls in flight are 64 connections, each with its own system calls.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import hiredis
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError


def pack(*parts: bytes) -> bytes:
    """A command as the protocol writes it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def pack_tail(parts: Sequence[bytes]) -> bytes:
    """The last parts of a command, for commands that share them; see ``pack_hmget``."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def pack_hmget(key: bytes, fields: int, tail: bytes) -> bytes:
    """HMGET of ``fields`` many fields that ``pack_tail`` has packed."""
    return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n%b" % (fields + 2, len(key), key, tail)


class _Asked:
    """Commands that were sent together: their replies so far, and who waits for all of them."""

    __slots__ = ("count", "future", "refusal", "replies", "since")

    def __init__(self, future: asyncio.Future[list[Any]], count: int, since: float) -> None:
        self.future = future
        self.count = count
        self.since = since
        self.replies: list[Any] = []
        self.refusal: str | None = None


class Wire(asyncio.Protocol):
    """An open connection; ``Wire.open`` makes one.

    Args:
        patience_s: a connection on which replies are due and nothing has come for so long is given up. Not much less
            than the longest that a call waits: else calls that come often would cut off those of a slow server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, patience_s: float) -> None:
        self._loop = loop
        self._patience_s = patience_s
        self._reader = hiredis.Reader()
        self._due: deque[_Asked] = deque()
        self._outgoing: list[bytes] | None = None
        self._heard_at = loop.time()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str, *, patience_s: float) -> Wire:
        """Connects, authenticates and selects the database, within ``patience_s``.

        Raises:
            redis AuthenticationError: the server refuses the user or password.
            redis ConnectionError, OSError: there is no server, or it does not answer.
        """
        async with asyncio.timeout(patience_s):  # a TimeoutError is an OSError
            return await cls._open(url, patience_s)

    @classmethod
    async def _open(cls, url: str, patience_s: float) -> Wire:
        about = parse_url(url)  # type: ignore[no-untyped-call]
        loop = asyncio.get_running_loop()
        make = partial(cls, loop, patience_s=patience_s)
        if "path" in about:
            _, wire = await loop.create_unix_connection(make, about["path"])
        else:
            host, port = about.get("host", "localhost"), about.get("port", 6379)
            _, wire = await loop.create_connection(make, host, port)
        try:
            if about.get("password") is not None:
                user = [about["username"].encode()] if about.get("username") else []
                await wire.ask([pack(b"AUTH", *user, about["password"].encode())])
            if about.get("db"):
                await wire.ask([pack(b"SELECT", b"%d" % about["db"])])
        except BaseException:
            wire.close()
            raise
        return wire

    @property
    def usable(self) -> bool:
        """Whether it is open and, as far as one can tell, alive."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._due and self._loop.time() - max(self._heard_at, self._due[0].since) > self._patience_s:
            self.close()
            return False
        return True

    def ask(self, commands: Sequence[bytes]) -> asyncio.Future[list[Any]]:
        """Sends packed commands; the future holds the replies, in their order. Of a cancelled one they are dropped.

        Raises:
            redis AuthenticationError, ResponseError: in the future: the server refuses one of them.
            redis ConnectionError: the connection is closed; in the future: it ended first, or the server is not ready
                yet.
        """
        if self._transport is None or self._transport.is_closing():
            raise RedisConnectionError("the connection is closed")
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._due.append(_Asked(future, len(commands), self._loop.time()))
        if self._outgoing is None:  # the first in this turn of the loop goes at once, and all others in it together
            self._outgoing = []
            self._loop.call_soon(self._flush)
            self._send(commands)
        else:
            self._outgoing += commands
        return future

    def close(self) -> None:
        """Ends the connection; calls that wait for it fail."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(RedisConnectionError("the connection was closed"))

    def _flush(self) -> None:
        commands, self._outgoing = self._outgoing, None
        if commands:
            self._send(commands)

    def _send(self, commands: Sequence[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(commands))

    def _fail(self, error: Exception) -> None:
        while self._due:
            future = self._due.popleft().future
            if not future.done():
                future.set_exception(error)

    # ------------------------------------------------------------------------------------ asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # a stream protocol gets no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            reply = self._reader.gets()
            while reply is not False:
                asked = self._due[0]
                asked.replies.append(reply)
                if isinstance(reply, hiredis.ReplyError):
                    asked.refusal = str(reply)
                if len(asked.replies) == asked.count:
                    self._due.popleft()
                    self._settle(asked)
                reply = self._reader.gets()
        except (hiredis.ProtocolError, IndexError):  # not our protocol, or a reply nobody asked for
            self.close()

    def _settle(self, asked: _Asked) -> None:
        if asked.future.done():
            return
        if asked.refusal is None:
            asked.future.set_result(asked.replies)
        else:
            asked.future.set_exception(_refusal(asked.refusal))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RedisConnectionError(f"the connection was lost ({type(exc).__name__})" if exc else "closed by peer"))


def _refusal(reply: str) -> RedisError:
    """What redis-py would raise for an error reply."""
    if reply.startswith(("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH")):
        return AuthenticationError(reply)
    if reply.startswith("LOADING"):  # it has just started
        return BusyLoadingError(reply)
    return ResponseError(reply)
