"""What a client asks: the stores of a repository, or a service; and how it hears of what is published there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.repo import Repo, home_folder
from fsclient.answers.repeating import prefixes
from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.invalidator import CacheInvalidator, NewListener
from fsclient.cache.listener import PublishListener
from fsclient.reading.reader import Reader
from fsclient.reading.stores import StoreReader
from fsclient.resilience.breaker import Transition

if TYPE_CHECKING:
    from fsclient.remote.reader import ServiceReader

L = TypeVar("L", bound=Reader, covariant=True)
Told: TypeAlias = Callable[[Transition], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Generic[L]):
    """Who answers.

    Attributes:
        scope: what a cache's keys begin with: it may serve clients of several.
        home: where the last good answers are kept.
        breaker: what its breaker is called in the metrics.
        listener, revision: as ``CacheInvalidator`` takes them.
    """

    loads: L
    scope: str
    home: Path
    breaker: str
    listener: NewListener
    revision: Callable[[Symbol, Timeframe], Awaitable[bytes]]

    def hearing(self, cache: FeatureCache) -> CacheInvalidator:
        """What keeps a cache in step with what is published."""
        return CacheInvalidator(
            cache, scope=self.scope, listener=self.listener, revision=self.revision, prefixes=prefixes
        )  # fmt: skip


def of_repo(
    repo: Repo,
    *,
    timeout_s: float,
    kept_share: float,
    retries: int,
    on_breaker: Told,
    on_online: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> Backend[StoreReader]:
    """The stores of a repository; the arguments are those of ``StoreReader``."""
    loads = StoreReader(
        repo,
        timeout_s=timeout_s,
        kept_share=kept_share,
        retries=retries,
        on_breaker=on_breaker,
        on_online=on_online,
        now=now,
        clock=clock,
    )
    return Backend(
        loads=loads,
        scope=_scope(repo.project, repo.offline, repo.redis_url or str(repo.home)),
        home=repo.home,
        breaker="breaker.online",
        listener=partial(PublishListener, repo.project, loads.online.client),
        revision=loads.online.revision,
    )


def of_service(
    url: str,
    *,
    api_key: str | None,
    kept_share: float,
    retries: int,
    on_breaker: Told,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> Backend[ServiceReader]:
    """A service; the arguments are those of ``ServiceReader``."""
    from fsclient.remote.reader import ServiceReader, no_revision  # loaded by those who ask a service

    loads = ServiceReader(
        url, api_key=api_key, kept_share=kept_share, retries=retries, on_breaker=on_breaker, now=now, clock=clock
    )
    return Backend(
        loads=loads,
        scope=_scope("service", loads.url),
        home=home_folder(),
        breaker="breaker.service",
        listener=loads.listener,
        revision=no_revision,
    )


def _scope(*where: str) -> str:
    return hashlib.sha256("\n".join(where).encode()).hexdigest()[:12] + "|"
