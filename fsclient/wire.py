"""One connection to one Redis server, shared by all calls of an event loop.

A call does not own the connection: its commands join the stream, and replies come in the same order, so calls that
overlap travel together and a cancelled call takes nothing with it. Its reply is read and dropped when it comes. (A
pool lends a connection to one call at a time: 64 calls in flight are 64 connections, each with its own system calls.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

STALL_S = 0.5
"""A connection on which replies are due and nothing has come for so long is given up."""


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
    """An open connection; ``Wire.open`` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader()
        self._due: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._outgoing: list[bytes] = []
        self._heard_at = loop.time()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str) -> Wire:
        """Connects, authenticates and selects the database.

        Raises:
            AuthenticationError: the server refuses the user or password.
            redis ConnectionError, OSError: there is no server.
        """
        about = parse_url(url)  # type: ignore[no-untyped-call]
        loop = asyncio.get_running_loop()
        if "path" in about:
            _, wire = await loop.create_unix_connection(lambda: cls(loop), about["path"])
        else:
            host, port = about.get("host", "localhost"), about.get("port", 6379)
            _, wire = await loop.create_connection(lambda: cls(loop), host, port)
        try:
            if about.get("password") is not None:
                user = [about["username"].encode()] if about.get("username") else []
                await wire.ask([pack(b"AUTH", *user, about["password"].encode())])
            if about.get("db"):
                await wire.ask([pack(b"SELECT", b"%d" % about["db"])])
        except ResponseError as error:
            wire.close()
            if str(error).startswith(("WRONGPASS", "NOAUTH", "ERR AUTH", "NOPERM")):
                raise AuthenticationError("refused") from None
            raise
        except BaseException:
            wire.close()
            raise
        return wire

    @property
    def usable(self) -> bool:
        """Whether it is open and, as far as one can tell, alive."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._due and self._loop.time() - max(self._heard_at, self._due[0][1]) > STALL_S:
            self.close()
            return False
        return True

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """The replies to packed commands, in their order.

        Raises:
            ResponseError: the server refuses one of them.
            redis ConnectionError: the connection ended first.
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
                        future.set_exception(ResponseError(str(reply)))
                    else:
                        future.set_result(reply)
                reply = self._reader.gets()
        except (hiredis.ProtocolError, IndexError):  # not our protocol, or a reply nobody asked for
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RedisConnectionError(f"the connection was lost ({type(exc).__name__})" if exc else "closed by peer"))


class Wires:
    """One repository's connection on each event loop that uses it."""

    def __init__(self) -> None:
        self._open: dict[asyncio.AbstractEventLoop, Wire] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Task[Wire]] = {}

    async def get(self, url: str) -> Wire:
        """The running loop's connection; those who come while it is made share the attempt."""
        loop = asyncio.get_running_loop()
        wire = self._open.get(loop)
        if wire is not None and wire.usable:
            return wire
        task = self._opening.get(loop)
        if task is None or task.done():
            self._drop_closed_loops()
            task = self._opening[loop] = loop.create_task(Wire.open(url), name="fsclient-connect")
            task.add_done_callback(self._opened)
        return await asyncio.shield(task)

    def _opened(self, task: asyncio.Task[Wire]) -> None:
        loop = task.get_loop()
        if self._opening.get(loop) is task:
            del self._opening[loop]
        if not task.cancelled() and task.exception() is None:
            self._open[loop] = task.result()

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
        for loop in [loop for loop in self._open if loop.is_closed()]:
            del self._open[loop]
