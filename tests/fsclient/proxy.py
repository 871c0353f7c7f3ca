"""A proxy that a test puts before a server, to make the network's faults on command.

It listens on 127.0.0.1 and hands on to a TCP address or a Unix socket. It runs on an event loop in a thread of its own,
so that what it costs does not hold up the loop under test.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time left: closing resets the connection


class Proxy:
    """Forwards what it receives until a fault is set; each fault ends the one before.

    Args:
        target: a Unix socket's path, or ``(host, port)``.

    Attributes:
        port: where it listens; the same for its whole life.
        connections: accepted so far.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._heard: list[bytes] = []
        self._delayed: list[float] = []
        self._silent = False
        self._hurry = asyncio.Event()
        self._delay_s = 0.0
        self._cut_after: int | None = None
        self.port = 0
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------------------------------------- commands

    def forward(self) -> None:
        """All is well again. Connections that a black hole swallowed are reset, as they would be found to be."""
        was_silent, self._silent, self._delay_s, self._cut_after = self._silent, False, 0.0, None
        self._loop.call_soon_threadsafe(self._hurry.set)
        if was_silent:
            self._run(self._reset_all())
        self._run(self._listen())

    def refuse(self) -> None:
        """The server is gone: its connections are reset, new ones refused."""
        self._run(self._end())

    def black_hole(self) -> None:
        """Connections are taken and nothing ever comes back, neither on them nor on the ones there are."""
        self._silent = True

    def delay(self, seconds: float) -> None:
        """Every reply comes so much later; those on their way come at once when the delay ends."""
        self._loop.call_soon_threadsafe(self._hurry.clear)
        self._delay_s = seconds

    def cut(self, after_bytes: int) -> None:
        """Every connection is reset once so many bytes of replies have passed."""
        self._cut_after = after_bytes

    def drop(self) -> None:
        """The connections there are are reset, new ones taken."""
        self._run(self._reset_all())

    # ------------------------------------------------------------------------------------------ questions

    @property
    def connections_now(self) -> int:
        """How many are open."""
        return len(self._pairs)

    @property
    def waiting_s(self) -> float:
        """For how long the oldest delayed reply has been on its way; 0 when there is none."""
        return self._loop.time() - min(self._delayed) if self._delayed else 0.0

    def heard(self, command: bytes) -> int:
        """How often a command's name came from clients since the last ``forget``."""
        return b"".join(self._heard).upper().count(b"\r\n" + command.upper() + b"\r\n")

    def forget(self) -> None:
        """Restart the counts."""
        self._heard.clear()

    # -------------------------------------------------------------------------------------------- the work

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=2048)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            for listening in server.sockets:  # what was accepted in this very turn becomes a connection first
                self._loop.remove_reader(listening.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            server.close()
        await self._reset_all()

    async def _finish(self) -> None:
        """Ends what still runs; the transports say good-bye in the loop's next turns."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)

    async def _reset_all(self) -> None:
        for pair in list(self._pairs):
            self._reset(pair)

    def _reset(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        client, server = pair
        sock = client.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.transport.abort()
        server.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if isinstance(self._target, str):
                from_server, server = await asyncio.open_unix_connection(self._target)
            else:
                from_server, server = await asyncio.open_connection(*self._target)
        except BaseException:
            client.transport.abort()
            raise
        pair = (client, server)
        self._pairs.add(pair)
        pumps = [asyncio.create_task(self._ask(reader, server)), asyncio.create_task(self._answer(from_server, pair))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in pair:
                writer.close()
            self._pairs.discard(pair)

    async def _ask(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await client.read(65_536):
            self._heard.append(data)
            if not self._silent:
                server.write(data)
                await server.drain()

    async def _answer(
        self, server: asyncio.StreamReader, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    ) -> None:
        passed = 0
        while data := await server.read(65_536):
            if self._delay_s:
                since = self._loop.time()
                self._delayed.append(since)
                try:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._hurry.wait(), self._delay_s)
                finally:
                    self._delayed.remove(since)
            if self._silent:
                continue
            if self._cut_after is not None and passed + len(data) >= self._cut_after:
                pair[0].write(data[: max(0, self._cut_after - passed)])
                await pair[0].drain()
                self._reset(pair)
                return
            passed += len(data)
            pair[0].write(data)
            await pair[0].drain()
