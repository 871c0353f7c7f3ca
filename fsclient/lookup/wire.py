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
        self._due: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._outgoing: list[bytes] = []
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
        if self._due and self._loop.time() - max(self._heard_at, self._due[0][1]) > self._patience_s:
            self.close()
            return False
        return True

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """The replies to packed commands, in their order.

        Raises:
            redis AuthenticationError, ResponseError: the server refuses one of them.
            redis ConnectionError: the connection ended first, or the server is not ready yet.
        """
        if not self.usable:
            raise RedisConnectionError("the connection is closed")
        now = self._loop.time()
        futures = [self._loop.create_future() for _ in commands]
        self._due.extend((future, now) for future in futures)
        if not self._outgoing:
            self._loop.call_soon(self._flush)  # what other calls send in this turn of the loop goes with it
        self._outgoing.extend(commands)
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()  # no effect on one that is done; the replies of others are dropped

    def close(self) -> None:
        """Ends the connection; calls that wait for it fail."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(RedisConnectionError("the connection was closed"))

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _fail(self, error: Exception) -> None:
        while self._due:
            future, _ = self._due.popleft()
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
                future, _ = self._due.popleft()
                if not future.done():
                    if isinstance(reply, hiredis.ReplyError):
                        future.set_exception(_refusal(str(reply)))
                    else:
                        future.set_result(reply)
                reply = self._reader.gets()
        except (hiredis.ProtocolError, IndexError):  # not our protocol, or a reply nobody asked for
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RedisConnectionError(f"the connection was lost ({type(exc).__name__})" if exc else "closed by peer"))


def _refusal(reply: str) -> RedisError:
    """What redis-py would raise for an error reply."""
    if reply.startswith(("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH")):
        return AuthenticationError(reply)
    if reply.startswith("LOADING"):  # it has just started
        return BusyLoadingError(reply)
    return ResponseError(reply)


class Wires:
    """One repository's connection on each event loop that uses it.

    Args:
        patience_s: see ``Wire``.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._open: dict[asyncio.AbstractEventLoop, Wire] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Task[Wire]] = {}

    async def get(self, url: str) -> Wire:
        """The running loop's connection; those who come while it is made share the attempt."""
        loop = asyncio.get_running_loop()
        wire = self._open.get(loop)
        if wire is not None and wire.usable:
            return wire
        task = self._opening.get(loop)
        if task is None or task.done():  # done only if it was cancelled before it began
            self._drop_closed_loops()
            task = self._opening[loop] = loop.create_task(self._connect(url), name="fsclient-connect")
            task.add_done_callback(_seen)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise RedisConnectionError("the connection was closed") from None  # by close(), not our caller
            raise

    async def _connect(self, url: str) -> Wire:
        """Opens the connection and keeps it, in one step with the end of the attempt: who comes next finds either."""
        loop = asyncio.get_running_loop()
        try:
            wire = self._open[loop] = await Wire.open(url, patience_s=self._patience_s)
            return wire
        finally:
            self._opening.pop(loop, None)

    async def close(self) -> None:
        """Ends the running loop's connection."""
        loop = asyncio.get_running_loop()
        task = self._opening.pop(loop, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        wire = self._open.pop(loop, None)
        if wire is not None:
            wire.close()
            await asyncio.sleep(0)  # the transport says good-bye in the loop's next turn

    def _drop_closed_loops(self) -> None:
        for loop in [loop for loop in (*self._open, *self._opening) if loop.is_closed()]:
            self._open.pop(loop, None)
            self._opening.pop(loop, None)


def _seen(task: asyncio.Task[Wire]) -> None:
    """Takes note of a failed attempt: asyncio need not report it when nobody waited until the end."""
    if not task.cancelled():
        task.exception()
