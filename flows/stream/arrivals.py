"""Bars that have arrived: whose turn it is, and which have to wait, for their close or for another run's end."""

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
    """What has been read and not been taken yet, in the order that it came.

    Args:
        early_s: a bar that arrives so long before it closes waits for its close.
    """

    def __init__(self, *, early_s: float, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._early_s, self._now, self._monotonic = early_s, now, monotonic
        self._waiting: dict[str, _Waiting] = {}
        self._early: list[Item] = []

    def sort(self, entries: Sequence[Entry]) -> tuple[dict[str, list[Item]], list[tuple[Entry, BadEntryError]]]:
        """The bars whose turn it is, by symbol; and what of the entries is no bar."""
        now_s = self._now().timestamp()
        groups: dict[str, list[Item]] = defaultdict(list)
        unreadable: list[tuple[Entry, BadEntryError]] = []
        items, self._early = self._early, []
        for symbol, held in list(self._waiting.items()):
            if held.due_s <= self._monotonic():
                groups[symbol] += held.items
                held.items = []
        for entry in entries:
            try:
                items.append((entry, from_fields(entry.fields)))
            except BadEntryError as error:
                unreadable.append((entry, error))
        for entry, bar in items:
            if 0 < _close_s(bar) - now_s <= self._early_s:
                self._early.append((entry, bar))
            elif bar.symbol in self._waiting and bar.symbol not in groups:
                self._waiting[bar.symbol].items.append((entry, bar))
            else:
                groups[bar.symbol].append((entry, bar))
        return groups, unreadable

    def postpone(self, symbol: str, items: list[Item]) -> None:
        """Lets a symbol wait, once more, that another run works on."""
        waiting = self._waiting.setdefault(symbol, _Waiting())
        waiting.items = [*items, *waiting.items]
        waiting.due_s = self._monotonic() + retry_after_s(waiting.tries)
        waiting.tries += 1

    def admit(self, symbol: str) -> None:
        """A symbol that waited does not any more."""
        self._waiting.pop(symbol, None)

    def is_waiting(self, symbol: str) -> bool:
        """Whether a symbol waits for another run."""
        return symbol in self._waiting

    def due_s(self) -> list[float]:
        """In how many seconds each of those that wait has its turn."""
        now_s = self._now().timestamp()
        due = [_close_s(bar) - now_s for _, bar in self._early]
        return due + [waiting.due_s - self._monotonic() for waiting in self._waiting.values()]


def _close_s(bar: LiveBar) -> float:
    return bar.open_us / 1e6 + catalog.timeframe(bar.timeframe).seconds
