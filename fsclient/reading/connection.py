"""The connection to one Redis server that all calls of an event loop share.

A call does not own the connection: its commands join the stream, and replies come in the same order, so calls that
overlap travel together and a cancelled call takes nothing with it. Its reply is read and dropped when it comes. (A
pool lends a connection to one call at a time: 64 calls in flight are 64 connections, each with its own system calls.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any

import hiredis
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError


def pack(*parts: bytes) -> bytes:
    """A command as the protocol writes it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class RedisConnection:
    """One event loop's connection to one server: opened when it is first needed, and again after it was lost.

    Args:
        timeout_s: how long opening it may take; and a connection on which replies are due and nothing has arrived for
            so long is given up. Not much less than the longest that a call waits, or frequent calls would cut off
            those that wait for a slow server.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._stream: _Stream | None = None
        self._opening: asyncio.Task[_Stream] | None = None

    def ask(self, url: str, commands: Sequence[bytes]) -> Awaitable[list[Any]]:
        """Sends packed commands together; what it returns, awaited, is their replies in the same order.

        Over an open connection the commands are sent at once, or with others at the end of the loop's turn when
        replies are due already. Calls that arrive while it is being opened share the
        attempt. Replies to a cancelled call are dropped.

        Raises:
            redis AuthenticationError: the server refuses the user or password, or this user may not read.
            redis ResponseError: the server refuses one of the commands.
            redis ConnectionError, OSError: there is no server, it is not ready yet, it does not answer, or the
                connection ended before the replies were complete.
        """
        stream = self._stream
        if stream is not None and stream.is_usable(self._timeout_s):
            return stream.send(commands)
        return self._open_and_ask(url, commands)

    async def close(self) -> None:
        """Ends the connection; calls that wait for it fail. Harmless when called twice."""
        task, self._opening = self._opening, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
            await asyncio.sleep(0)  # the transport reports its end in the loop's next turn

    async def _open_and_ask(self, url: str, commands: Sequence[bytes]) -> list[Any]:
        task = self._opening
        if task is None or task.done():  # done only if it was cancelled before it began
            task = asyncio.get_running_loop().create_task(self._open(url), name="fsclient-connect")
            task.add_done_callback(_retrieve_error)
            self._opening = task
        try:
            stream = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise RedisConnectionError("the connection was closed") from None  # by close(), not by our caller
            raise
        return await stream.send(commands)

    async def _open(self, url: str) -> _Stream:
        """Opens the connection and keeps it, in one step with the end of the attempt: later calls see one or other."""
        try:
            async with asyncio.timeout(self._timeout_s):  # a TimeoutError is an OSError
                self._stream = await _connect(url)
            return self._stream
        finally:
            self._opening = None


def _retrieve_error(task: asyncio.Task[_Stream]) -> None:
    """Retrieves a failed attempt's error, or asyncio reports it as lost when no caller waited until the end."""
    if not task.cancelled():
        task.exception()


async def _connect(url: str) -> _Stream:
    """Connects, authenticates and selects the database."""
    address = parse_url(url)  # type: ignore[no-untyped-call]
    loop = asyncio.get_running_loop()
    if "path" in address:
        _, stream = await loop.create_unix_connection(lambda: _Stream(loop), address["path"])
    else:
        host, port = address.get("host", "localhost"), address.get("port", 6379)
        _, stream = await loop.create_connection(lambda: _Stream(loop), host, port)
    try:
        if address.get("password") is not None:
            user = [address["username"].encode()] if address.get("username") else []
            await stream.send([pack(b"AUTH", *user, address["password"].encode())])
        if address.get("db"):
            await stream.send([pack(b"SELECT", b"%d" % address["db"])])
    except BaseException:
        stream.close()
        raise
    return stream


class _Pending:
    """Commands that were sent together: their replies so far, and the future of the call that waits for all."""

    __slots__ = ("count", "future", "refusal", "replies", "sent_at")

    def __init__(self, future: asyncio.Future[list[Any]], count: int, sent_at: float) -> None:
        self.future = future
        self.count = count
        self.sent_at = sent_at
        self.replies: list[Any] = []
        self.refusal: str | None = None


class _Stream(asyncio.Protocol):
    """One connection from its opening to its end; asyncio and uvloop call it as data arrives."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader()
        self._pending: deque[_Pending] = deque()
        self._outgoing: list[bytes] | None = None
        self._heard_at = loop.time()
        self._transport: Any = None  # asyncio's, or uvloop's, which is not derived from asyncio's class

    def is_usable(self, timeout_s: float) -> bool:
        """Whether it is open and, as far as one can tell, alive."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._pending and self._loop.time() - max(self._heard_at, self._pending[0].sent_at) > timeout_s:
            self.close()
            return False
        return True

    def send(self, commands: Sequence[bytes]) -> asyncio.Future[list[Any]]:
        """Sends packed commands; the future holds their replies, or why there are none."""
        if self._transport is None or self._transport.is_closing():
            raise RedisConnectionError("the connection is closed")
        if not self._pending:  # nothing is under way, so these go at once
            self._transport.write(b"".join(commands))
        elif self._outgoing is None:  # these, and all others of this turn of the loop, go together at its end
            self._outgoing = [*commands]
            self._loop.call_soon(self._flush)
        else:
            self._outgoing += commands
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._pending.append(_Pending(future, len(commands), self._loop.time()))
        return future

    def close(self) -> None:
        """Ends it; calls that wait for replies fail."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(RedisConnectionError("the connection was closed"))

    def _flush(self) -> None:
        commands, self._outgoing = self._outgoing, None
        if commands and not self._transport.is_closing():
            self._transport.write(b"".join(commands))

    def _fail(self, error: Exception) -> None:
        while self._pending:
            future = self._pending.popleft().future
            if not future.done():
                future.set_exception(error)

    # ------------------------------------------------------------------------------------ asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            reply = self._reader.gets()
            while reply is not False:
                pending = self._pending[0]
                pending.replies.append(reply)
                if isinstance(reply, hiredis.ReplyError):
                    pending.refusal = str(reply)
                if len(pending.replies) == pending.count:
                    self._pending.popleft()
                    _settle(pending)
                reply = self._reader.gets()
        except (hiredis.ProtocolError, IndexError):  # another protocol, or a reply to nothing
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RedisConnectionError(f"the connection was lost ({type(exc).__name__})" if exc else "closed by peer"))


def _settle(pending: _Pending) -> None:
    if pending.future.done():
        return
    if pending.refusal is None:
        pending.future.set_result(pending.replies)
    else:
        pending.future.set_exception(_as_error(pending.refusal))


def _as_error(refusal: str) -> RedisError:
    """What redis-py would raise for an error reply."""
    if refusal.startswith(("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH")):
        return AuthenticationError(refusal)
    if refusal.startswith("LOADING"):  # it has just started
        return BusyLoadingError(refusal)
    return ResponseError(refusal)
