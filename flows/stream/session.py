"""One owner of some shards at work: reads bars, publishes what they give at once, stores it in batches.

Whatever goes wrong ends the session with an error, and the next one (``service``) begins from what is durable: every
entry whose bar is not, is still pending and is read again. So there is one way back from every fault, a kill included.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from feature_repo import catalog
from flows.ledger import Ledger
from flows.runs.publish import publish_window
from flows.runs.record import at_stage
from flows.settings import Settings
from flows.stream import fast_path, slow_path
from flows.stream.arrivals import Arrivals, Item
from flows.stream.bar import LiveBar, as_text
from flows.stream.config import StreamConfig
from flows.stream.feed import shard_of
from flows.stream.leases import StreamLeases
from flows.stream.loaded import LoadedSymbols
from flows.stream.reader import Entry, Reader
from flows.stream.series import Series
from flows.stream.stats import StreamStats
from flows.stream.writer import Writer

_log = logging.getLogger("fstore")


class Session:
    """From ``begin`` to ``end``, ``step`` by step; not thread-safe.

    Args:
        client: a synchronous redis-py client of the online store.
        now: the clock, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: Any,
        reader: Reader,
        *,
        shards: Sequence[int],
        owner: str,
        run: str,
        pace: StreamConfig,
        meter: StreamStats,
        stop: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._ledger, self._client, self._reader = settings, ledger, client, reader
        self._shards, self._run, self._pace, self._meter = frozenset(shards), run, pace, meter
        self._now, self._monotonic = now, monotonic
        self._tables, self._project = settings.tables(), settings.repo().project
        self._holding = StreamLeases(ledger, self._tables, owner=owner, ttl_s=pace.ttl_s)
        self._writer = Writer(
            self._tables, ledger, self._holding, reader, run=run, pace=pace, stop=stop, now=now, monotonic=monotonic,
            stored=self._forget_oldest,
        )  # fmt: skip
        self._memory = LoadedSymbols(settings, ledger, self._holding, self._writer, run=run, now=now)
        self._arrivals = Arrivals(early_s=pace.early_s, now=now, monotonic=monotonic)
        self._aside: dict[str, list[Item]] = {}
        self._last_bar_s = monotonic()

    # ------------------------------------------------------------------------------------------ from the outside

    def begin(self) -> None:
        """Brings the known symbols of the shards up to date and into memory, and works off what is pending."""
        names = [
            name for name, _ in self._ledger.series() if name in catalog.SYMBOLS and shard_of(name) in self._shards
        ]
        known = list(dict.fromkeys(names))[: self._pace.most_symbols]
        if known:
            self._hold(known)
        self.step(self._reader.begin())

    def read(self, *, block_s: float) -> list[Entry]:
        """The next entries; none when so much is unstored that more has to wait."""
        if self._writer.is_full:
            self._writer.settle(wait=True)
            return []
        wait_s = min([block_s, *self._arrivals.due_s(), *self._writer.due_s()])
        return self._reader.read(count=self._pace.read_bars, block_ms=max(1, round(wait_s * 1e3)))

    def step(self, entries: Sequence[Entry]) -> None:
        """Takes entries, and stores what is due to be."""
        self._writer.settle(wait=False)
        groups, unreadable = self._arrivals.sort(entries)
        for entry, error in unreadable:
            self._writer.batch.unreadable.append((error.rule, str(error), as_text(entry.fields)))
            self._writer.batch.entries.append(entry)
            self._meter.bad += 1
        if groups:
            self._last_bar_s = self._monotonic()
            self._process(groups)
        self._writer.store_if_due()
        if self._aside:
            self._do_aside()
        if self._writer.is_idle and self._monotonic() - self._last_bar_s > self._pace.idle_s:
            self._holding.release()

    def end(self) -> None:
        """Stores and acknowledges everything that was taken."""
        self._writer.store_all()
        if self._aside:
            self._do_aside()
        self._reader.end()

    def close(self) -> None:
        """Gives back leases and threads; after ``end``, or after an error."""
        self._writer.close()
        self._holding.release()

    # ---------------------------------------------------------------------------------------------------- taking

    def _process(self, groups: dict[str, list[Item]]) -> None:
        for symbol in self._hold(list(groups)):
            self._arrivals.postpone(symbol, groups.pop(symbol))
        for symbol in groups:
            self._arrivals.admit(symbol)
        now = self._now()
        sources: list[Series] = []
        for symbol, items in groups.items():
            for timeframe in dict.fromkeys(bar.timeframe for _, bar in items):
                some = [item for item in items if item[1].timeframe == timeframe]
                if symbol in self._aside:
                    self._aside[symbol] += some
                elif (series := self._take(symbol, timeframe, some, now)) is not None:
                    sources.append(series)
        for source in sources:  # when every symbol's own bar is online
            if source.symbol.name not in self._aside:
                self._derive(source, now)

    def _take(self, symbol: str, timeframe: str, items: list[Item], now: datetime) -> Series | None:
        """Publishes a series' new bars; returns it if there were any."""
        series = self._memory.of(symbol).get(timeframe)
        spec, frame = catalog.symbol(symbol), catalog.timeframe(timeframe)
        opens, bars = _arrays([bar for _, bar in items])
        bad = fast_path.bad_bars(spec, frame, opens, bars, int(now.timestamp() * 1e6))
        good = [item for item, is_bad in zip(items, bad, strict=True) if not is_bad]
        rejected = [item for item, is_bad in zip(items, bad, strict=True) if is_bad]
        if rejected:
            self._writer.batch.bad += [bar for _, bar in rejected]
            self._writer.keep(rejected)
            self._meter.bad += len(rejected)
        if not good:
            return None
        if series is None or series.source is not None:
            self._set_aside(symbol, good)
            return None
        try:
            new = fast_path.unknown_to(series, [bar for _, bar in good])
            if new:
                self._publish(fast_path.take(series, *_arrays(new), self._holding.stamp(symbol, now)))
        except fast_path.NeedsBatchFlow:
            self._set_aside(symbol, good)
            return None
        self._meter.took(good, len(new), self._now().timestamp())
        self._writer.keep(good)
        return series if new else None

    def _derive(self, source: Series, now: datetime) -> None:
        symbol, created_us = source.symbol.name, self._holding.stamp(source.symbol.name, now)
        targets = [s for s in self._memory.of(symbol).values() if s.source == source.timeframe]
        try:
            for target in targets:
                fresh, short = fast_path.derive(
                    source, target, created_us, min_completeness=self._settings.min_completeness, now=now
                )  # fmt: skip
                if short is not None:
                    self._writer.batch.short.append(((symbol, target.timeframe.name), short))
                if fresh is not None:
                    self._publish(fresh)
        except fast_path.NeedsBatchFlow:
            self._set_aside(symbol, [])
            return
        seen_us = created_us
        for series in (source, *targets):
            was = self._writer.batch.touched.get((symbol, series.timeframe.name), (0, 0))
            close_us = series.end_us + series.timeframe.microseconds if series.end_us >= 0 else 0
            self._writer.batch.touched[symbol, series.timeframe.name] = max(was[0], close_us), seen_us

    def _publish(self, fresh: fast_path.Fresh) -> None:
        name = fresh.symbol.name
        at_stage(f"stream publish {name} {fresh.timeframe.name}")
        fence = self._holding.leases[name].token
        publish_window(self._client, self._project, name, fresh.timeframe, fresh.window, fence=fence)
        self._writer.batch.fresh.append(fresh)

    # -------------------------------------------------------------------------------------------------- holding

    def _hold(self, names: list[str]) -> list[str]:
        """Has symbols in memory under a lease; those that another run works on are told."""
        refused = self._memory.hold(names)
        for name, holder in refused.items():
            if not self._arrivals.is_waiting(name):
                _log.warning("%s waits: %s is working on it, until %s", name, holder.owner, holder.until)
        return [*refused]

    def _forget_oldest(self) -> None:
        busy = {one.symbol.name for one in self._writer.batch.fresh}
        self._memory.shrink(self._pace.most_symbols, busy=busy)

    # --------------------------------------------------------------------------------------------- what is aside

    def _set_aside(self, symbol: str, items: list[Item]) -> None:
        """Leaves a symbol to the batch flow: what it is in memory counts no more."""
        self._memory.forget(symbol)
        self._aside.setdefault(symbol, []).extend(items)
        for key in [key for key in self._writer.batch.touched if key[0] == symbol]:
            del self._writer.batch.touched[key]  # so that the batch flow finds it to be behind

    def _do_aside(self) -> None:
        self._writer.store_all()
        self._holding.release()
        aside, self._aside = self._aside, {}
        bars = {symbol: [bar for _, bar in items] for symbol, items in aside.items()}
        problems = slow_path.settle(bars, self._settings, self._tables, self._ledger, run=self._run, now=self._now())
        for symbol, items in aside.items():
            self._memory.forget(symbol)
            if symbol in problems:
                _log.warning("%s waits: %s", symbol, problems[symbol])
                self._arrivals.postpone(symbol, items)
            else:
                self._meter.settled(items, self._now().timestamp())
                self._reader.acknowledge([entry for entry, _ in items])


def _arrays(bars: Sequence[LiveBar]) -> tuple[Any, Any]:
    opens = np.array([bar.open_us for bar in bars], np.int64)
    return opens, np.array([bar.values for bar in bars], np.float64).T
