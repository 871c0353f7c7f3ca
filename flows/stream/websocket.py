"""Bars from a WebSocket: one connection, reopened when it is lost; a function per format reads its messages."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from flows.stream.bar import BadEntryError, LiveBar, from_json
from flows.stream.feed import Feed

_log = logging.getLogger("fstore")

RECONNECT_S = (0.2, 1.0, 2.0, 5.0, 15.0)
"""Waits between attempts, each lengthened at random by up to a half, so that clients don't all return at once; the last
one repeats. Nothing else retries a lost connection."""
_SILENCE_S = 20.0  # after this long without a message the server is pinged, and has as long to answer
_MAX_MESSAGE = 1 << 20  # bytes
_LOGGED = frozenset(10**n for n in range(12))  # of the messages that break one rule

Parse = Callable[[str | bytes], LiveBar | None]
"""Reads a message: its bar, or None when it holds none (a bar that is still open, a greeting).

Raises:
    BadEntryError: it is neither; the message goes to the quarantine as it is.
"""


async def receive(
    url: str,
    feed: Feed,
    *,
    parse: Parse = from_json,
    hello: Sequence[str] = (),
    sleep: Callable[[float], Any] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Passes a WebSocket's closed bars to the feed until it is cancelled.

    While the feed is full nothing is read, so the server notices. Bars that closed while the connection was down are
    not requested: ``fstore ingest exchange://…`` fetches them, and the stream takes them in.

    Args:
        url: ``ws://`` or ``wss://``; may hold a key, so it is never logged.
        hello: messages to send first, such as a subscription.
    """
    failures, rejected = 0, Counter[str]()
    while True:
        try:
            async with _connection(url) as connection:
                for message in hello:
                    await connection.send(message)
                async for message in connection:
                    failures = 0
                    await _forward(message, feed, parse, rejected)
            _log.warning("the source of live bars closed the connection; connecting again")
        except (OSError, WebSocketException, TimeoutError) as error:
            _log.warning("lost the source of live bars (%s); connecting again", type(error).__name__)
        await sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)] * (1 + jitter() / 2))
        failures += 1


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[Any]:
    async with connect(
        url, open_timeout=10, ping_interval=_SILENCE_S, ping_timeout=_SILENCE_S, max_size=_MAX_MESSAGE
    ) as connection:
        yield connection


async def _forward(message: str | bytes, feed: Feed, parse: Parse, rejected: Counter[str]) -> None:
    try:
        bar = parse(message)
    except BadEntryError as error:
        rejected[error.rule] += 1
        if rejected[error.rule] in _LOGGED:
            _log.warning("message rejected (%s, %d so far): %s", error.rule, rejected[error.rule], error)
        text = message if isinstance(message, str) else message.decode("utf-8", "backslashreplace")
        await asyncio.to_thread(feed.put_unreadable, text, error)
        return
    if bar is not None:
        await asyncio.to_thread(feed.put, [bar])
