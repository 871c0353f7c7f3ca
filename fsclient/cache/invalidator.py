"""A client's cache kept in step with what is published, on every event loop that uses it.

In memory, an answer is dropped when a publish of its symbol and timeframe is heard, and all are when publishes may have
been missed. The shared tier needs neither: there an answer's name holds the revision at which its symbols stood when
it was asked for. A process that has heard of a newer revision asks by another name; so an answer that a publish has
overtaken is served to no process that listens, whether or not any of them heard that publish, and a process that
begins to listen drops nothing that others have stored.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from feature_repo import catalog
from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.flight import SingleFlight
from fsclient.cache.listening import Listener, OnLost, OnPublish
from fsclient.errors import FeatureStoreError
from fsclient.resilience.guard import OUTAGE

Pair = tuple[str, str]
"""A symbol and a timeframe."""
Watcher: TypeAlias = Callable[[Sequence[Pair] | None], None]
"""Called with what was published; None when publishes may have been missed."""

REVISION_S = 0.1
"""The longest that a question for a revision takes; the answer is then shared as by processes that do not listen."""
_UNHEARD = "|@unheard"
_UNANSWERED: tuple[type[Exception], ...] = (*OUTAGE, FeatureStoreError)


class NewListener(Protocol):
    """Makes a listener of the running loop."""

    def __call__(self, *, on_publish: OnPublish, on_lost: OnLost) -> Listener: ...


class CacheInvalidator:
    """Listens from the first call of ``begin`` on a loop until ``close``.

    Args:
        scope: what the cache's keys of this repository begin with.
        listener: makes what hears publishes on the running loop.
        revision: reads what changes with every publish of a symbol and timeframe.
        prefixes: from what changed, the beginnings of the keys that it concerns.

    Attributes:
        changes: publishes heard so far, and moments at which one may have been missed.
    """

    def __init__(
        self,
        cache: FeatureCache,
        *,
        scope: str,
        listener: NewListener,
        revision: Callable[[catalog.Symbol, catalog.Timeframe], Awaitable[bytes]],
        prefixes: Callable[[Iterable[Pair]], Iterable[str]],
    ) -> None:
        self._cache = cache
        self._scope = scope
        self._new_listener = listener
        self._revision = revision
        self._prefixes = prefixes
        self._listeners: dict[asyncio.AbstractEventLoop, Listener] = {}
        self._revisions: dict[Pair, bytes] = {}  # those known to be the newest
        self._flights = SingleFlight()
        self._watchers: set[Watcher] = set()
        self.changes = 0

    @property
    def is_listening(self) -> bool:
        """Whether every publish is heard on the running loop."""
        listener = self._listeners.get(asyncio.get_running_loop())
        return listener is not None and listener.is_listening

    def begin(self) -> bool:
        """Listens on the running loop; cheap when it does already.

        Returns:
            ``is_listening``.
        """
        loop = asyncio.get_running_loop()
        listener = self._listeners.get(loop)
        if listener is not None:
            return listener.is_listening
        for ended in [other for other in self._listeners if other.is_closed()]:
            del self._listeners[ended]
        listener = self._listeners[loop] = self._new_listener(on_publish=self._published, on_lost=self._lost)
        self._forget()  # what was published before was not heard
        listener.start()
        return listener.is_listening

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Calls ``watcher`` after each publish, after the cache has forgotten what it changed.

        Returns:
            What ends that.
        """
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    async def name(self, key: str, pairs: Iterable[Pair]) -> str:
        """What an answer is called in the cache: its key, with the revision of what it is of if others share it."""
        if not self._cache.is_shared:
            return key
        if not self.is_listening:
            return key + _UNHEARD
        known = await self._known(sorted(pairs))
        if known is None:
            return key + _UNHEARD
        return f"{key}|@{hashlib.blake2b(b'|'.join(known), digest_size=12).hexdigest()}"

    def follows(self, name: str) -> bool:
        """Whether what is kept under a name is dropped, or asked for by another, when a publish changes it."""
        return self.is_listening and not name.endswith(_UNHEARD)

    async def close(self) -> None:
        """Stops listening; on loops of other threads a moment later."""
        listeners, self._listeners = self._listeners, {}
        own = listeners.pop(asyncio.get_running_loop(), None)
        for listener in listeners.values():
            listener.abandon()
        if own is not None:
            await own.stop()

    async def _known(self, pairs: Sequence[Pair]) -> list[bytes] | None:
        """The newest revision of each; None when the store does not answer in time."""
        unknown = [pair for pair in pairs if pair not in self._revisions]
        changes = self.changes
        if unknown:
            questions = (self._flights.load((pair, changes), partial(self._ask, pair)) for pair in unknown)
            try:
                async with asyncio.timeout(REVISION_S):
                    asked = dict(zip(unknown, await asyncio.gather(*questions), strict=True))
            except _UNANSWERED:
                return None
            if changes != self.changes:  # a publish that was heard meanwhile may be newer than these
                return None
            self._revisions |= asked
        return [self._revisions[pair] for pair in pairs]

    async def _ask(self, pair: Pair) -> bytes:
        symbol, timeframe = pair
        return await self._revision(catalog.symbol(symbol), catalog.timeframe(timeframe))

    async def _published(self, changed: Iterable[Pair]) -> None:
        self.changes += 1
        changed = list(changed)
        for pair in changed:
            self._revisions.pop(pair, None)
        for prefix in self._prefixes(changed):
            self._cache.forget_prefix(self._scope + prefix)
        self._notify(changed)

    async def _lost(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.changes += 1
        self._revisions.clear()
        self._cache.forget_prefix(self._scope)
        self._notify(None)

    def _notify(self, changed: Sequence[Pair] | None) -> None:
        for watcher in tuple(self._watchers):
            watcher(changed)
