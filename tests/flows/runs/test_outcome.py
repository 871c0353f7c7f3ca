"""What a run did, and that one bad symbol stops no other."""

from __future__ import annotations

from functools import partial

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.series import series
from flows.runs.outcome import Outcome, in_order, isolated, problems_of


def test_one_bad_symbol_does_not_stop_the_others() -> None:
    done: list[str] = []
    errors: dict[str, Exception] = {}
    for name in ("EUR/USD", "GBP/USD", "USD/JPY"):
        with isolated(partial(errors.__setitem__, name)):
            if name == "GBP/USD":
                raise ValueError("no such bar")
            done.append(name)
    assert done == ["EUR/USD", "USD/JPY"]
    assert {name: str(error) for name, error in errors.items()} == {"GBP/USD": "no such bar"}


@pytest.mark.parametrize("error", [RedisConnectionError("down"), RedisTimeoutError("down"), KeyboardInterrupt("down")])
def test_what_is_no_symbols_fault_stops_them_all(error: BaseException) -> None:
    errors: list[Exception] = []
    with pytest.raises(type(error), match="down"), isolated(errors.append):
        raise error
    assert errors == []


def test_a_stopped_series_or_symbol_says_why() -> None:
    stopped = [
        Outcome.stopped("GBP/USD", "busy"),
        Outcome.stopped(series("EUR/USD", "4h"), ValueError("no such bar")),
        Outcome(symbol="EUR/USD", timeframe="1h", bars=3),
    ]
    assert problems_of(in_order(stopped)) == ["EUR/USD 4h: ValueError: no such bar", "GBP/USD: busy"]


def test_outcomes_are_ordered_by_symbol_and_from_the_shortest_timeframe() -> None:
    keys = [("GBP/USD", "1h"), ("EUR/USD", "1d"), ("EUR/USD", "4h"), ("EUR/USD", "")]
    ordered = in_order(Outcome(symbol=symbol, timeframe=timeframe) for symbol, timeframe in keys)
    assert [(outcome.symbol, outcome.timeframe) for outcome in ordered] == [
        ("EUR/USD", ""), ("EUR/USD", "4h"), ("EUR/USD", "1d"), ("GBP/USD", "1h")
    ]  # fmt: skip
