"""Bars that have arrived: which are ready, and which wait for their close or for another run to end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from feature_repo import catalog
from flows.stream.bar import BadEntryError, LiveBar, from_fields
from flows.stream.config import retry_after_s
from flows.stream.reader import Entry

Item = tuple[Entry, LiveBar]


@dataclass(slots=True)
class _Waiting:
    """A symbol that another run works on."""

    items: list[Item] = field(default_factory=list)
    tries: int = 0
    due_s: float = 0.0


class Arrivals:
    """Entries that have been read and not taken yet, in the order of their arrival.

    Args:
        early_s: a bar that arrives at most this long before it closes waits for its close.
        now: the clock, aware UTC.
    """

    def __init__(self, *, early_s: float, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._early_s, self._now, self._monotonic = early_s, now, monotonic
        self._waiting: dict[str, _Waiting] = {}
        self._early: list[Item] = []
        self._forming: dict[tuple[str, str], int] = {}  # open of the newest bar that arrived long before its close

    def sort(self, entries: Sequence[Entry]) -> tuple[dict[str, list[Item]], list[tuple[Entry, BadEntryError]]]:
        """The bars that are ready, by symbol, and the entries that are not bars."""
        now_s = self._now().timestamp()
        groups: dict[str, list[Item]] = defaultdict(list)
        unreadable: list[tuple[Entry, BadEntryError]] = []
        items, self._early = self._early, []
        for symbol, waiting in list(self._waiting.items()):
            if waiting.due_s <= self._monotonic():
                groups[symbol] += waiting.items
                waiting.items = []
        for entry in entries:
            try:
                items.append((entry, from_fields(entry.fields)))
            except BadEntryError as error:
                unreadable.append((entry, error))
        for entry, bar in items:
            if self._waits_for_close(bar, _close_s(bar) - now_s):
                self._early.append((entry, bar))
            elif bar.symbol in self._waiting and bar.symbol not in groups:
                self._waiting[bar.symbol].items.append((entry, bar))
            else:
                groups[bar.symbol].append((entry, bar))
        return groups, unreadable

    def _waits_for_close(self, bar: LiveBar, left_s: float) -> bool:
        """Whether a bar is early because clocks differ.

        A bar that also arrived long before its close comes from a source that sends bars while they form, so what
        arrives just before the close is not finished either: it goes to the gate, which rejects it as ``unclosed``.
        """
        series = bar.symbol, bar.timeframe
        if left_s > self._early_s:
            self._forming[series] = bar.open_us
        return 0 < left_s <= self._early_s and self._forming.get(series) != bar.open_us

    def postpone(self, symbol: str, items: list[Item]) -> None:
        """Puts a symbol back, because another run works on it; the wait grows with each attempt."""
        waiting = self._waiting.setdefault(symbol, _Waiting())
        waiting.items = [*items, *waiting.items]
        waiting.due_s = self._monotonic() + retry_after_s(waiting.tries)
        waiting.tries += 1

    def admit(self, symbol: str) -> None:
        """Ends the wait of a symbol."""
        self._waiting.pop(symbol, None)

    def is_waiting(self, symbol: str) -> bool:
        """Whether a symbol waits for another run."""
        return symbol in self._waiting

    def due_s(self) -> list[float]:
        """In how many seconds each waiting bar or symbol is due."""
        now_s = self._now().timestamp()
        due = [_close_s(bar) - now_s for _, bar in self._early]
        return due + [waiting.due_s - self._monotonic() for waiting in self._waiting.values()]


def _close_s(bar: LiveBar) -> float:
    return bar.open_us / 1e6 + catalog.timeframe(bar.timeframe).seconds
