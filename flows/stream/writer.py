"""Batches on their way into the offline store: one is filled while the one before is stored."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.tables import OfflineTables
from flows.ledger import LeaseLost, Ledger
from flows.runs.record import at_stage
from flows.stream.arrivals import Item
from flows.stream.batch import Batch, store
from flows.stream.config import StreamConfig, retry_after_s
from flows.stream.leases import StreamLeases
from flows.stream.reader import Reader

_log = logging.getLogger("fstore")
_POLL_S = 0.02


class Writer:
    """Stores batch after batch in a thread of its own, and acknowledges what is stored.

    Args:
        stop: when it is set, a store that can't be reached is not waited for.
        stored: is called when a batch is stored and acknowledged.

    Attributes:
        batch: the one that is being filled.
    """

    def __init__(
        self,
        tables: OfflineTables,
        ledger: Ledger,
        holding: StreamLeases,
        reader: Reader,
        *,
        run: str,
        pace: StreamConfig,
        stop: threading.Event,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        stored: Callable[[], None],
    ) -> None:
        self._tables, self._ledger, self._holding, self._reader = tables, ledger, holding, reader
        self._run, self._pace, self._stop, self._now, self._monotonic = run, pace, stop, now, monotonic
        self._stored = stored
        self.batch, self._storing = Batch(), Batch()
        self._future: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "fstore-stream-store")
        self._over = threading.Event()
        self._since_s = monotonic()

    @property
    def is_full(self) -> bool:
        """Whether so much is unstored that more has to wait."""
        return self.batch.bars >= 4 * self._pace.flush_bars

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be stored, nor is being stored."""
        return not (self.batch or self._future)

    def due_s(self) -> list[float]:
        """In how many seconds there is something to do: a store to look after, or a batch to store."""
        if self._future is not None:
            return [_POLL_S]
        return [self._since_s + self._pace.flush_s - self._monotonic()] if self.batch else []

    def keep(self, items: Sequence[Item]) -> None:
        """Has entries acknowledged once the batch is stored; the clock of an empty one begins to run."""
        if not self.batch:
            self._since_s = self._monotonic()
        self.batch.entries += [entry for entry, _ in items]

    def store_if_due(self) -> None:
        """Begins to store the batch if it has waited long enough, or is large enough, and none is being stored."""
        waited_s = self._monotonic() - self._since_s
        is_due = waited_s >= self._pace.flush_s or self.batch.bars >= self._pace.flush_bars
        if self.batch and is_due and self._future is None:
            self._begin()

    def store_all(self) -> None:
        """Stores and acknowledges everything."""
        self.settle(wait=True)
        if self.batch:
            self._begin()
            self.settle(wait=True)

    def settle(self, *, wait: bool) -> None:
        """Acknowledges what is stored; waits for what is being stored, if told to.

        Raises:
            FencedOutError: another run has written one of the symbols since.
            LeaseLost: another run holds one.
        """
        if self._future is None or not (wait or self._future.done()):
            return
        self._future.result()
        self._future = None
        self._reader.acknowledge(self._storing.entries)
        at_stage("stream acknowledged")
        self._stored()

    def close(self) -> None:
        """Ends the thread, whatever it does."""
        self._over.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _begin(self) -> None:
        self._storing, self.batch = self.batch, Batch()
        self._future = self._thread.submit(self._store, self._storing, dict(self._holding.leases))

    def _store(self, batch: Batch, leases: dict[str, Any]) -> None:
        """In the thread: publishing goes on meanwhile, and while the offline store can't be reached."""
        for failures in itertools.count():
            try:
                store(
                    batch, leases, self._tables, self._ledger, self._holding.versions, run=self._run,
                    now=self._now(),
                )  # fmt: skip
                return
            except (FencedOutError, LeaseLost):
                raise
            except Exception as error:
                if self._stop.is_set() or self._over.is_set():
                    raise
                _log.warning("bars could not be stored, trying again: %s: %s", type(error).__name__, error)
                self._over.wait(retry_after_s(failures))
