"""A second tier of the cache that several processes share, in one Redis server (not a Cluster).

Three kinds of keys, all under ``fstore:cache:``

- ``value:<hash of name>``: one cached value, with its time to live;
- ``names``: a sorted set of the names whose values are valid, in the order of their bytes;
- ``ends``: the same names by the time when their values end, to clear up ``names``.

A value counts only while its name is in ``names``. So a prefix is invalidated by ONE command that takes a range out of
a sorted set, without looking at any other key, and whatever the server evicts or loses makes misses, never stale hits.
Names are the cache's keys, percent-encoded, which keeps prefixes prefixes.

Every failure is a miss: see ``BoundedCalls``. An invalidation that failed stays owed, and is made up for before this
process asks for anything else; until then, or if this process ends, others see the value until its time is over.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fsclient.cache.shared_codec import decode, encode
from fsclient.resilience.bounded import BoundedCalls

_log = logging.getLogger("feature_store_client")

PREFIX = "fstore:cache:"
_NAMES = PREFIX + "names"
_ENDS = PREFIX + "ends"
_LARGEST_VALUE = 16 * 2**20
"""Bytes; larger values stay with the process that has them: Redis serves no other client while it moves one."""
_MAX_NAMES = 100_000
_LONGEST_TTL_S = 7 * 86_400.0
_MAX_OWED = 1_000
_ALL = ("-", "+")  # the range of all names

# All in one step, by the server's own clock: the value, its name, the end of at most 16 others whose time has passed,
# and the indexes' own end, so that an unused cache leaves nothing behind. Should names pile up anyway, all are
# dropped: their values become misses.
_SET = """
local value, names, ends = KEYS[1], KEYS[2], KEYS[3]
local data, name, ttl, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 16)) do
  redis.call('ZREM', names, old)
  redis.call('ZREM', ends, old)
end
if redis.call('ZCARD', names) >= most then redis.call('DEL', names, ends) end
redis.call('SET', value, data, 'PX', ttl)
redis.call('ZADD', names, 0, name)
redis.call('ZADD', ends, now + ttl, name)
for _, index in ipairs({names, ends}) do
  if redis.call('PTTL', index) < ttl then redis.call('PEXPIRE', index, ttl) end
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedHit:
    """A value of the shared tier, and how long it still has to live."""

    value: Any
    ttl_s: float


class SharedCache:
    """Values by string keys in Redis. Each method has a twin for event loops, named with an ``a``.

    Thread-safe; the same object serves any number of event loops, and connects when it is first used.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: the longest any call takes; then it is a miss, or not done.

    Raises:
        ValueError: the URL is invalid. The message does not repeat it: it may hold a password.
    """

    def __init__(self, url: str, *, timeout_s: float = 0.1) -> None:
        try:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
            )
        except ValueError:
            raise ValueError(
                "redis_url is not a Redis URL: use redis://, rediss:// or unix://, special letters of a password as %XX"
            ) from None
        self._set = self._redis.register_script(_SET)
        self._bounded = BoundedCalls("shared cache", timeout_s=timeout_s)
        self._owed: dict[tuple[str, str], int] = {}  # ranges of names, each with the number of its latest invalidation
        self._numbers = count()
        self._owed_lock = Lock()

    @property
    def failures(self) -> int:
        """Calls that failed or took too long; not those left out because of them."""
        return self._bounded.failures

    def get(self, key: str) -> SharedHit | None:
        """The value and its remaining life; None for a miss."""
        return self._bounded.call(self._getting(key))

    async def aget(self, key: str) -> SharedHit | None:
        """As ``get``."""
        return await self._bounded.acall(self._getting(key))

    def set(self, key: str, value: Any, ttl_s: float) -> bool:
        """Store a value, which must not be changed meanwhile; False if it was not.

        That is when the server failed, the value is too large, or its type has no encoding that restores it exactly
        (see ``shared_codec``).
        """
        stored: bool | None = False
        try:
            stored = self._bounded.call(self._setting(key, value, ttl_s))
        finally:
            self._replaced(key, stored)
        return bool(stored)

    async def aset(self, key: str, value: Any, ttl_s: float) -> bool:
        """As ``set``."""
        stored: bool | None = False
        try:
            stored = await self._bounded.acall(self._setting(key, value, ttl_s))
        finally:
            self._replaced(key, stored)
        return bool(stored)

    def invalidate(self, key: str) -> bool:
        """Forget one key; False if the server failed, so that other processes may still see it."""
        return bool(self._bounded.call(self._invalidating(_only(key))))

    async def ainvalidate(self, key: str) -> bool:
        """As ``invalidate``."""
        return bool(await self._bounded.acall(self._invalidating(_only(key))))

    def invalidate_prefix(self, prefix: str) -> bool:
        """Forget every key that starts with ``prefix``, all for ``""``; False as above."""
        return bool(self._bounded.call(self._invalidating(_starting_with(prefix))))

    async def ainvalidate_prefix(self, prefix: str) -> bool:
        """As ``invalidate_prefix``."""
        return bool(await self._bounded.acall(self._invalidating(_starting_with(prefix))))

    def close(self) -> None:
        """Ends threads and connections; from then on all is a miss. Harmless when called twice."""
        self._bounded.close()
        self._redis.close()

    def _getting(self, key: str) -> Callable[[], SharedHit | None]:
        def run() -> SharedHit | None:
            self._pay()
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(_value_key(key))
                pipe.pttl(_value_key(key))
                pipe.zscore(_NAMES, _name(key))
                data, ttl_ms, valid = pipe.execute()
            if data is None or valid is None or ttl_ms <= 0:
                return None
            try:
                return SharedHit(value=decode(data), ttl_s=ttl_ms / 1000)
            except ValueError as error:  # the server is well, but something else wrote there
                _log.debug("shared cache: a value was not readable: %s", error)
                return None

        return run

    def _setting(self, key: str, value: Any, ttl_s: float) -> Callable[[], bool]:
        def run() -> bool:
            self._pay()
            data = encode(value)
            if data is None or len(data) > _LARGEST_VALUE:
                return False
            ttl_ms = max(1, int(min(ttl_s, _LONGEST_TTL_S) * 1000))
            self._set(keys=[_value_key(key), _NAMES, _ENDS], args=[data, _name(key), ttl_ms, _MAX_NAMES])
            return True

        return run

    def _invalidating(self, names: tuple[str, str]) -> Callable[[], bool]:
        self._owe(names)

        def run() -> bool:
            self._pay()
            return True

        return run

    def _replaced(self, key: str, stored: bool | None) -> None:
        if not stored:  # the value that the key had before is void anyway
            self._owe(_only(key))

    def _owe(self, names: tuple[str, str]) -> None:
        with self._owed_lock:
            if len(self._owed) >= _MAX_OWED:
                self._owed, names = {}, _ALL
            self._owed[names] = next(self._numbers)

    def _pay(self) -> None:
        with self._owed_lock:
            owed = dict(self._owed)
        if not owed:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            for low, high in owed:
                pipe.zremrangebylex(_NAMES, low, high)
            pipe.execute()
        with self._owed_lock:
            for names, number in owed.items():
                if self._owed.get(names) == number:  # else it was invalidated once more meanwhile
                    del self._owed[names]


def _name(key: str) -> str:
    return quote(key, safe="", errors="surrogatepass")


def _only(key: str) -> tuple[str, str]:
    """The range of names that holds this key alone."""
    return f"[{_name(key)}", f"[{_name(key)}"


def _starting_with(prefix: str) -> tuple[str, str]:
    """The range of the names that start with ``prefix``; a name has no letter from DEL on."""
    return (f"[{_name(prefix)}", f"[{_name(prefix)}\x7f") if prefix else _ALL


def _value_key(key: str) -> str:
    return PREFIX + "value:" + hashlib.blake2b(_name(key).encode(), digest_size=16).hexdigest()
