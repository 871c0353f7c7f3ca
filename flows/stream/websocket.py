"""Bars from a WebSocket: one connection, made again when it is lost, each message read by a function of its format."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from flows.stream.bar import BadEntryError, LiveBar, from_json
from flows.stream.feed import Feed

_log = logging.getLogger("fstore")

RECONNECT_S = (0.2, 1.0, 2.0, 5.0, 15.0)
"""Waits between attempts, each stretched by up to a half by chance, so that clients don't all come back at once; the
last one repeats. The only place where a lost connection is tried again."""
_QUIET_S = 20.0  # after so long a silence the server is asked whether it is there, and has as long to answer
_LARGEST = 1 << 20

Parse = Callable[[str | bytes], LiveBar | None]
"""Makes a bar of a message, None of one that tells of none (a bar still open, a greeting).

Raises:
    BadEntryError: it is neither; it goes to the quarantine as it is.
"""


async def receive(
    url: str,
    feed: Feed,
    *,
    parse: Parse = from_json,
    hello: Sequence[str] = (),
    sleep: Callable[[float], Any] = asyncio.sleep,
    chance: Callable[[], float] = random.random,
) -> None:
    """Hands a WebSocket's closed bars to the feed, until it is cancelled.

    While the feed is full no more is read, so the server notices. Bars that closed while the connection was down are
    not asked for: ``fstore ingest exchange://…`` brings them, and the stream takes them in.

    Args:
        url: ``ws://`` or ``wss://``; may hold a key, so it is never logged.
        hello: messages that are sent first, as a subscription.
    """
    failures = 0
    while True:
        try:
            async with _connection(url) as connection:
                for message in hello:
                    await connection.send(message)
                async for message in connection:
                    failures = 0
                    await _hand_on(message, feed, parse)
            _log.warning("the source of live bars closed the connection; connecting again")
        except (OSError, WebSocketException, TimeoutError) as error:
            _log.warning("the source of live bars is lost (%s); connecting again", type(error).__name__)
        await sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)] * (1 + chance() / 2))
        failures += 1


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[Any]:
    async with connect(
        url, open_timeout=10, ping_interval=_QUIET_S, ping_timeout=_QUIET_S, max_size=_LARGEST
    ) as connection:
        yield connection


async def _hand_on(message: str | bytes, feed: Feed, parse: Parse) -> None:
    try:
        bar = parse(message)
    except BadEntryError:
        text = message if isinstance(message, str) else message.decode("utf-8", "backslashreplace")
        await asyncio.to_thread(feed.put_unreadable, text)
        return
    if bar is not None:
        await asyncio.to_thread(feed.put, [bar])
