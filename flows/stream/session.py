"""One owner of some shards at work: reads bars, publishes what they make at once, stores it in batches.

Any fault ends the session with an error, and the next one (``service``) starts from what is durable: every entry whose
bar is not is still pending and is read again. So there is one way back from every fault, a kill included.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from feature_repo import catalog
from flows.ledger import Run
from flows.runs.publish import publish_window
from flows.runs.record import at_stage
from flows.settings import Settings
from flows.stream import fast_path, slow_path
from flows.stream.arrivals import Arrivals, Item
from flows.stream.bar import LiveBar, as_text
from flows.stream.config import StreamConfig
from flows.stream.fast_path import Fresh, LiveSeries, NeedsBatchFlow
from flows.stream.feed import shard_of
from flows.stream.leases import StreamLeases
from flows.stream.loaded import LoadedSymbols
from flows.stream.reader import Entry, Reader
from flows.stream.stats import StreamStats
from flows.stream.writer import Writer

_log = logging.getLogger("fstore")


class Session:
    """From ``begin`` to ``end``, one ``step`` at a time; not thread-safe.

    Args:
        run: whose work this is; each step has its own ``now``.
        client: a synchronous redis-py client of the online store.
        stop: once it is set, an unavailable offline store is no longer waited for.
        now: the clock, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        run: Run,
        client: Any,
        reader: Reader,
        *,
        shards: Sequence[int],
        owner: str,
        config: StreamConfig,
        stats: StreamStats,
        stop: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._run, self._client, self._reader = settings, run, client, reader
        self._shards, self._config, self._stats = frozenset(shards), config, stats
        self._now, self._monotonic = now, monotonic
        self._project = settings.repo().project
        self._leases = StreamLeases(run, owner=owner, ttl_s=config.ttl_s)
        self._writer = Writer(
            run,
            self._leases,
            reader,
            config=config,
            stop=stop,
            now=now,
            monotonic=monotonic,
            stored=self._forget_oldest,
        )
        self._loaded = LoadedSymbols(settings, run, self._leases, self._writer, now=now)
        self._arrivals = Arrivals(early_s=config.early_s, now=now, monotonic=monotonic)
        self._for_batch: dict[str, list[Item]] = {}  # by symbol; a symbol without bars is only brought up to date
        self._last_bar_s = monotonic()

    # -------------------------------------------------------------------------------------------------- lifecycle

    def begin(self) -> None:
        """Brings the known symbols of the shards up to date and into memory, and works off what is pending."""
        series = self._run.ledger.series()
        names = [name for name, _ in series if name in catalog.SYMBOLS and shard_of(name) in self._shards]
        known = list(dict.fromkeys(names))[: self._config.max_symbols]
        if known:
            self._hold(known)
        self.step(self._reader.begin())

    def read(self, *, block_s: float) -> list[Entry]:
        """The next entries; none while so much is unstored that more has to wait."""
        if self._writer.is_full:
            self._writer.settle(wait=True)
            return []
        wait_s = min([block_s, *self._arrivals.due_s(), *self._writer.due_s()])
        return self._reader.read(count=self._config.read_bars, block_ms=max(1, round(wait_s * 1e3)))

    def step(self, entries: Sequence[Entry]) -> None:
        """Takes entries, and stores what is due."""
        self._writer.settle(wait=False)
        groups, unreadable = self._arrivals.sort(entries)
        for entry, error in unreadable:
            self._writer.batch.unreadable.append((error.rule, str(error), as_text(entry.fields)))
            self._writer.batch.entries.append(entry)
            self._stats.bad += 1
        if groups:
            self._last_bar_s = self._monotonic()
            self._process(groups)
        self._writer.store_if_due()
        if self._for_batch:
            self._run_batch_flow()
        if self._monotonic() - self._last_bar_s > self._config.idle_s and self._writer.is_idle:
            self._leases.release()

    def end(self) -> None:
        """Stores and acknowledges everything that was taken."""
        self._writer.store_all()
        if self._for_batch:
            self._run_batch_flow()
        self._reader.end()

    def close(self) -> None:
        """Releases leases and threads; after ``end``, or after an error."""
        self._writer.close()
        self._leases.release()

    # -------------------------------------------------------------------------------------------------- fast path

    def _process(self, groups: dict[str, list[Item]]) -> None:
        for symbol in self._hold(list(groups)):
            self._arrivals.postpone(symbol, groups.pop(symbol))
        for symbol in groups:
            self._arrivals.admit(symbol)
        now = self._now()
        extended: list[tuple[LiveSeries, int]] = []
        for symbol, items in groups.items():
            for timeframe in dict.fromkeys(bar.timeframe for _, bar in items):
                of_series = [item for item in items if item[1].timeframe == timeframe]
                if symbol in self._for_batch:
                    self._for_batch[symbol] += of_series
                    continue
                series = self._loaded.of(symbol).get(timeframe)
                if fresh := self._take(symbol, timeframe, series, of_series, now):
                    extended.append((series, fresh.created_us))  # type: ignore[arg-type]  # only a series makes bars
        for source, created_us in extended:  # once every symbol's own bar is online
            if source.symbol.name not in self._for_batch:
                self._derive(source, created_us, now)

    def _take(
        self, symbol: str, timeframe: str, series: LiveSeries | None, items: list[Item], now: datetime
    ) -> Fresh | None:
        """Publishes the new bars of a symbol and timeframe. Returns them, if there were any."""
        spec, frame = (
            (series.symbol, series.timeframe) if series else (catalog.symbol(symbol), catalog.timeframe(timeframe))
        )
        opens, bars = _arrays([bar for _, bar in items])
        bad = fast_path.bad_bars(spec, frame, opens, bars, int(now.timestamp() * 1e6))
        if bad.any():
            rejected = [item for item, is_bad in zip(items, bad, strict=True) if is_bad]
            items = [item for item, is_bad in zip(items, bad, strict=True) if not is_bad]
            self._writer.batch.bad += [bar for _, bar in rejected]
            self._writer.keep(rejected)
            self._stats.bad += len(rejected)
            if not items:
                return None
        if series is None or series.source is not None:
            self._leave_to_batch(symbol, items)
            return None
        fresh: Fresh | None = None
        try:
            new = fast_path.unknown_to(series, [bar for _, bar in items])
            if new:
                fresh = fast_path.take(series, *_arrays(new), self._leases.stamp(symbol, now))
                self._publish(fresh)
        except NeedsBatchFlow:
            self._leave_to_batch(symbol, items)
            return None
        self._stats.published(items, len(new), self._now().timestamp())
        self._writer.keep(items)
        return fresh

    def _derive(self, source: LiveSeries, created_us: int, now: datetime) -> None:
        """Publishes the longer timeframes' bars that a source has closed."""
        symbol = source.symbol.name
        targets = [series for series in self._loaded.of(symbol).values() if series.source == source.timeframe]
        try:
            for target in targets:
                fresh, short = fast_path.derive(
                    source, target, created_us, min_completeness=self._settings.min_completeness, now=now
                )
                if short is not None:
                    self._writer.batch.short.append(((symbol, target.timeframe.name), short))
                if fresh is not None:
                    self._publish(fresh)
        except NeedsBatchFlow:
            self._leave_to_batch(symbol, [])
            return
        touched = self._writer.batch.touched
        for series in (source, *targets):
            key = symbol, series.timeframe.name
            touched[key] = max(touched.get(key, (0, 0))[0], series.close_us), created_us

    def _publish(self, fresh: Fresh) -> None:
        name = fresh.symbol.name
        at_stage(f"stream publish {name} {fresh.timeframe.name}")
        fence = self._leases.leases[name].token
        publish_window(self._client, self._project, name, fresh.timeframe, fresh.window, fence=fence)
        self._writer.batch.fresh.append(fresh)

    # ----------------------------------------------------------------------------------------------------- memory

    def _hold(self, names: list[str]) -> list[str]:
        """Leases and loads symbols. Returns those that another run works on."""
        refused = self._loaded.hold(names)
        for name, holder in refused.items():
            if not self._arrivals.is_waiting(name):
                _log.warning("%s waits: %s is working on it, until %s", name, holder.owner, holder.until)
        return [*refused]

    def _forget_oldest(self) -> None:
        busy = {fresh.symbol.name for fresh in self._writer.batch.fresh}
        self._loaded.shrink(self._config.max_symbols, busy=busy)

    # -------------------------------------------------------------------------------------------------- slow path

    def _leave_to_batch(self, symbol: str, items: list[Item]) -> None:
        """Leaves a symbol to the batch flow: its series in memory are no longer valid."""
        self._loaded.forget(symbol)
        self._for_batch.setdefault(symbol, []).extend(items)
        for key in [key for key in self._writer.batch.touched if key[0] == symbol]:
            del self._writer.batch.touched[key]  # so that the batch flow finds it behind

    def _run_batch_flow(self) -> None:
        self._writer.store_all()
        self._leases.release()
        waiting, self._for_batch = self._for_batch, {}
        bars = {symbol: [bar for _, bar in items] for symbol, items in waiting.items()}
        problems = slow_path.settle(replace(self._run, now=self._now()), bars, self._settings)
        for symbol, items in waiting.items():
            self._loaded.forget(symbol)
            if symbol in problems:
                _log.warning("%s waits: %s", symbol, problems[symbol])
                self._arrivals.postpone(symbol, items)
            else:
                self._stats.left_to_batch(items, self._now().timestamp())
                self._reader.acknowledge([entry for entry, _ in items])


def _arrays(bars: Sequence[LiveBar]) -> tuple[Any, Any]:
    """Open times, (n,) int64, and numbers, (``BAR_FIELDS``, n) float64."""
    opens = np.array([bar.open_us for bar in bars], np.int64)
    return opens, np.array([bar.values for bar in bars], np.float64).T
