"""The online store as the dashboard reads it: how fresh every view is, and the values of a view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, view
from feature_repo.freshness import bars_behind, freshness_of
from feature_repo.repo import Repo
from feature_repo.stores.redis.codec import decode_doubles, decode_timestamp, entity_key, field_key, timestamp_key
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.redis.embedded import EmbeddedServerError

REFRESH_S = 2.0
_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewAge:
    """How fresh a symbol's views of one timeframe are.

    Attributes:
        event_us: close of the newest bar, microseconds since 1970-01-01 UTC.
        age_bars: closed bars that an open market has made since; None for a symbol that the catalog has lost.
    """

    symbol: str
    timeframe: str
    event_us: int
    age_bars: int | None

    @property
    def state(self) -> str:
        """``fresh``, ``late`` or ``stale``."""
        return freshness_of(self.timeframe, self.age_bars)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineValues:
    """The online values of a symbol's views of one timeframe.

    Attributes:
        values: field -> value; NaN during warm-up; a field that was never published is absent.
    """

    age: ViewAge
    values: dict[str, float]


class OnlineStore:
    """Reads the online store over one shared client. Thread-safe.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, repo: Repo, *, now: Callable[[], float] = time.time) -> None:
        self._repo, self._now = repo, now
        self._lock = threading.Lock()
        self._client: Any = None
        self._ages: list[ViewAge] = []
        self._read_at = float("-inf")
        self.problem = ""
        """Why the figures may be old; empty when the last reading succeeded."""
        self.unreadable: Mapping[str, str] = {}
        """Symbol, or symbol and timeframe -> why its age is unknown, as of the last reading."""

    def client(self) -> Any:
        """A synchronous redis-py client; it starts the embedded server when no URL is set, as every process does.

        Raises:
            OSError: the embedded server does not start.
        """
        with self._lock:
            if self._client is not None:
                try:
                    self._client.ping()
                    return self._client
                except (RedisError, OSError):
                    self._client = None  # the embedded server's owner may have gone: find or start it again
            try:
                self._client = connect(online_url(self._repo), self._repo.redis_type, timeout_s=_TIMEOUT_S)
            except EmbeddedServerError as error:
                raise OSError(str(error)) from error
            return self._client

    def ages(self) -> list[ViewAge]:
        """Every published symbol and timeframe, in the catalog's order; as last read when the store does not answer."""
        now = self._now()
        if now - self._read_at >= REFRESH_S:
            try:
                self._ages = self._read_ages(int(now * 1e6))
                self.problem = ""
            except (RedisError, OSError, ValueError) as error:
                self.problem = f"The online store does not answer ({type(error).__name__})."
            self._read_at = self._now()
        return self._ages

    def _read_ages(self, now_us: int) -> list[ViewAge]:
        frames = list(catalog.TIMEFRAMES.values())
        stamps = [timestamp_key(view("ohlcv", tf.name).name) for tf in frames]
        symbols = list(catalog.SYMBOLS.values())
        pipe = self.client().pipeline(transaction=False)
        for symbol in symbols:
            pipe.hmget(entity_key(symbol.name, self._repo.project), stamps)
        ages, unreadable = [], {}
        for symbol, reply in zip(symbols, pipe.execute(raise_on_error=False), strict=True):
            if isinstance(reply, Exception):  # a key of another type; a lost connection raises
                unreadable[symbol.name] = f"its key in the online store can't be read ({type(reply).__name__})"
                continue
            for tf, stamp in zip(frames, reply, strict=True):
                if not stamp:
                    continue
                try:
                    event_us = decode_timestamp(stamp)
                    age = bars_behind(symbol.session, tf, event_us, now_us)
                except ValueError as error:  # one bad symbol never hides the others
                    unreadable[f"{symbol.name} {tf.name}"] = str(error)
                    continue
                ages.append(ViewAge(symbol=symbol.name, timeframe=tf.name, event_us=event_us, age_bars=age))
        self.unreadable = unreadable
        return ages

    def values(self, symbol: str, timeframe: str, fields: Sequence[str]) -> OnlineValues | None:
        """The values online now; None when there are none or the store does not answer (see ``problem``)."""
        bars, indicators = view("ohlcv", timeframe).name, view("indicators", timeframe).name
        keys = [field_key(bars if name in BAR_FIELDS else indicators, name) for name in fields]
        try:
            reply = self.client().hmget(entity_key(symbol, self._repo.project), [timestamp_key(bars), *keys])
        except (RedisError, OSError, ValueError) as error:
            self.problem = f"The online store does not answer ({type(error).__name__})."
            return None
        if not reply[0]:
            return None
        spec = catalog.SYMBOLS[symbol]
        try:
            event_us = decode_timestamp(reply[0])
            age = bars_behind(spec.session, catalog.timeframe(timeframe), event_us, int(self._now() * 1e6))
        except ValueError as error:
            self.problem = f"{symbol} {timeframe} online: {error}."
            return None
        numbers, stored = decode_doubles(reply[1:]) if fields else (np.empty(0), np.empty(0, bool))
        return OnlineValues(
            age=ViewAge(symbol=symbol, timeframe=timeframe, event_us=event_us, age_bars=age),
            values={
                name: float(number)
                for name, number, is_stored in zip(fields, numbers, stored, strict=True)
                if is_stored
            },
        )
