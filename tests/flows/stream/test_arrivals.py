"""Bars are ready in the order of their arrival, except those that have to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flows.stream.arrivals import Arrivals
from flows.stream.bar import LiveBar, to_fields
from flows.stream.config import RETRY_S
from flows.stream.reader import Entry

OPEN_US = 1_704_711_600_000_000  # 2024-01-08 11:00 UTC
CLOSE_S = OPEN_US / 1e6 + 60


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.s = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(CLOSE_S + self.s, UTC)

    def monotonic(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arrivals(clock: Clock) -> Arrivals:
    return Arrivals(early_s=2.0, now=clock.now, monotonic=clock.monotonic)


def entry(n: int, symbol: str = "BTC/USD", *, minutes: int = 0, **fields: bytes) -> Entry:
    bar = LiveBar(
        symbol=symbol, timeframe="1m", open_us=OPEN_US + minutes * 60_000_000,
        open=1.0, high=1.0, low=1.0, close=1.0, volume=float(n),
    )  # fmt: skip
    fields_of_bar = {name.encode(): str(value).encode() for name, value in to_fields(bar).items()}
    return Entry(shard=0, id=f"{n}-0".encode(), fields=fields_of_bar | {name.encode(): v for name, v in fields.items()})


def ids(groups: dict[str, list[tuple[Entry, LiveBar]]]) -> dict[str, list[int]]:
    return {symbol: [int(entry.id.partition(b"-")[0]) for entry, _ in items] for symbol, items in groups.items()}


def test_bars_are_grouped_by_symbol_in_their_order(arrivals: Arrivals) -> None:
    groups, unreadable = arrivals.sort([entry(1), entry(2, "ETH/USD"), entry(3), entry(4, close=b"many")])
    assert ids(groups) == {"BTC/USD": [1, 3], "ETH/USD": [2]}
    assert [(entry.id, error.rule) for entry, error in unreadable] == [(b"4-0", "unreadable")]
    assert arrivals.due_s() == []


def test_a_bar_just_before_its_close_waits_for_it_and_one_long_before_does_not(
    arrivals: Arrivals, clock: Clock
) -> None:
    clock.s = -1.5
    groups, _ = arrivals.sort([entry(1), entry(2, minutes=1)])
    assert ids(groups) == {"BTC/USD": [2]}  # for the gate to reject
    assert arrivals.due_s() == [1.5]
    clock.s = 0.0
    assert ids(arrivals.sort([entry(3)])[0]) == {"BTC/USD": [1, 3]}


def test_a_bar_that_is_sent_while_it_forms_does_not_wait_for_its_close(arrivals: Arrivals, clock: Clock) -> None:
    """What arrives just before the close is no more finished than what arrived long before; the finished bar counts."""
    clock.s = -30.0
    assert ids(arrivals.sort([entry(1)])[0]) == {"BTC/USD": [1]}  # for the gate to reject
    clock.s = -0.5
    assert ids(arrivals.sort([entry(2), entry(3, "ETH/USD")])[0]) == {"BTC/USD": [2]}
    clock.s = 0.0
    assert ids(arrivals.sort([entry(4), entry(5, minutes=1)])[0]) == {"ETH/USD": [3], "BTC/USD": [4, 5]}
    clock.s = 59.0
    assert ids(arrivals.sort([entry(6, "ETH/USD", minutes=1), entry(7, minutes=1)])[0]) == {"BTC/USD": [7]}


def test_a_symbol_in_use_waits_longer_each_time_and_keeps_its_order(arrivals: Arrivals, clock: Clock) -> None:
    groups, _ = arrivals.sort([entry(1), entry(2, "ETH/USD")])
    for tries, wait_s in enumerate([*RETRY_S, RETRY_S[-1]]):
        arrivals.postpone("BTC/USD", groups["BTC/USD"])
        assert arrivals.is_waiting("BTC/USD")
        assert arrivals.due_s() == [wait_s]
        assert ids(arrivals.sort([entry(10 + tries)])[0]) == {}
        clock.s += wait_s
        groups, _ = arrivals.sort([])
        assert ids(groups) == {"BTC/USD": [1, *range(10, 11 + tries)]}
    arrivals.admit("BTC/USD")
    assert not arrivals.is_waiting("BTC/USD")
    assert arrivals.due_s() == []
