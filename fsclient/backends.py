"""What a client asks: the stores of a repository, or a service; and how it learns of what is published there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.meaning import definitions_digest
from feature_repo.repo import Repo, home_folder
from fsclient.answers.repeating import prefixes
from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.invalidator import CacheInvalidator, NewListener
from fsclient.cache.listener import PublishListener
from fsclient.reading.online import RedisReader
from fsclient.reading.reader import OnlineReader, Reader
from fsclient.reading.stores import StoreReader
from fsclient.resilience.breaker import Transition

if TYPE_CHECKING:
    from fsclient.remote.reader import ServiceReader

R = TypeVar("R", bound=Reader, covariant=True)
OnBreaker: TypeAlias = Callable[[Transition], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Generic[R]):
    """What answers a client's questions.

    Attributes:
        scope: what a cache's keys begin with: it may serve clients of several back ends.
        home: where the last good answers are kept.
        breaker: what its breaker is called in the metrics.
        listener, revision: as ``CacheInvalidator`` takes them.
    """

    reader: R
    scope: str
    home: Path
    breaker: str
    listener: NewListener
    revision: Callable[[Symbol, Timeframe], Awaitable[bytes]]

    def invalidator(self, cache: FeatureCache) -> CacheInvalidator:
        """What keeps a cache in step with what is published."""
        return CacheInvalidator(
            cache, scope=self.scope, listener=self.listener, revision=self.revision, prefixes=prefixes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBackend(Backend[StoreReader]):
    """The stores of a repository.

    Attributes:
        online: what reads its online store.
    """

    online: OnlineReader


def of_repo(
    repo: Repo,
    *,
    timeout_s: float,
    kept_share: float,
    retries: int,
    on_breaker: OnBreaker,
    on_online: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> StoreBackend:
    """The stores of a repository; arguments that are not named here are those of ``StoreReader``.

    Args:
        timeout_s: how long a call may take as a whole.
        on_online: called with the online store's URL after it has answered for the first time.
    """
    threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="fsclient")
    online, listener = open_online(
        repo, timeout_s=timeout_s * (1 - kept_share), threads=threads, on_first_answer=on_online
    )
    reader = StoreReader(
        online,
        repo.tables(),
        threads=threads,
        kept_share=kept_share,
        retries=retries,
        on_breaker=on_breaker,
        now=now,
        clock=clock,
    )
    return StoreBackend(
        reader=reader,
        online=online,
        scope=_scope(repo.project, repo.offline, repo.redis_url or str(repo.home), definitions_digest()),
        home=repo.home,
        breaker="breaker.online",
        listener=listener,
        revision=online.revision,
    )


def open_online(
    repo: Repo,
    *,
    timeout_s: float,
    threads: ThreadPoolExecutor,
    on_first_answer: Callable[[str], None] = lambda _: None,
) -> tuple[OnlineReader, NewListener]:
    """What reads a repository's online store, and what hears its publishes; which back end does is decided here.

    Args:
        timeout_s, threads, on_first_answer: as ``RedisReader`` takes them.
    """
    reader = RedisReader(repo, timeout_s=timeout_s, threads=threads, on_first_answer=on_first_answer)
    return reader, partial(PublishListener, repo.project, reader.client)


def of_service(
    url: str,
    *,
    api_key: str | None,
    kept_share: float,
    retries: int,
    on_breaker: OnBreaker,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> Backend[ServiceReader]:
    """A service; the arguments are those of ``ServiceReader``."""
    from fsclient.remote.reader import ServiceReader, no_revision  # loaded only for clients of a service

    reader = ServiceReader(
        url, api_key=api_key, kept_share=kept_share, retries=retries, on_breaker=on_breaker, now=now, clock=clock
    )
    return Backend(
        reader=reader,
        scope=_scope("service", reader.url),
        home=home_folder(),
        breaker="breaker.service",
        listener=reader.listener,
        revision=no_revision,
    )


def _scope(*where: str) -> str:
    return hashlib.sha256("\n".join(where).encode()).hexdigest()[:12] + "|"
