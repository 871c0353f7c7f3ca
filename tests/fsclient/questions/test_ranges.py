"""What a caller may ask for, and how it is read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from feature_repo import catalog
from fsclient import InvalidRequestError, UnknownFeatureError, UnknownSymbolError
from fsclient.frames import moments_of
from fsclient.questions.latest import latest_request
from fsclient.questions.ranges import closed_part, compute_request, range_request

JAN_31 = pd.Timestamp("2018-01-31", tz="UTC")
END_OF_JAN_31 = pd.Timestamp("2018-01-31 23:59:59.999999", tz="UTC")


# ---------------------------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    "value",
    [
        *("", "now", "today", "NaT", "tomorrow", "2018", "2018-01", "01/02/2018", "31 Jan 2018", "2018-02-30"),
        *("2018-01-31 25:00", "2018-01-31x", "20180131123", "1677-12-31", "2262-01-01", "9999-12-31", "0001-01-01"),
        *(None, 20180131, 1517356800, 1.5, True, pd.NaT, float("nan"), [], {}, b"2018-01-31", object),
        *(datetime(9999, 12, 31, tzinfo=UTC), date.min),
    ],
    ids=repr,
)
def test_what_is_no_day_of_the_calendar_is_refused_and_never_guessed(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="start_date"):
        range_request("EUR/USD", value, "2018-01-31", "1h")
    with pytest.raises(InvalidRequestError, match="end_date"):
        range_request("EUR/USD", "2018-01-01", value, "1h")


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    """01:30 New York on 4 November 2018 comes twice; the two are equal datetimes, an hour apart."""
    first = datetime(2018, 11, 4, 1, 30, tzinfo=ZoneInfo("America/New_York"))
    second = first.replace(fold=1)
    assert first == second
    starts = [range_request("EUR/USD", start, "2018-11-05", "1h").start for start in (first, second)]
    assert starts[1] - starts[0] == pd.Timedelta(hours=1)


def test_start_after_end_is_refused_and_equal_is_one_bar() -> None:
    with pytest.raises(InvalidRequestError, match="after end_date"):
        range_request("EUR/USD", "2018-02-01", "2018-01-31", "1h")
    request = range_request("EUR/USD", "2018-01-31T10:00", "2018-01-31T10:00", "1h")
    assert request.start == request.end


# ---------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("symbol", ["EUR/USX", "eur/usd", "EURUSD", "EUR/USD ", "../etc", ""])
def test_an_unknown_symbol_is_named(symbol: Any) -> None:
    with pytest.raises(UnknownSymbolError):
        range_request(symbol, "2018-01-01", "2018-01-31", "1h")
    with pytest.raises(UnknownSymbolError):
        latest_request([symbol], ["close"], "1h")


@pytest.mark.parametrize("symbol", [None, 5, ["EUR/USD"], ["EUR/USD", "GBP/USD"], ("EUR/USD",), {}])
def test_what_is_not_one_symbol_is_refused_with_what_takes_several(symbol: Any) -> None:
    for ask in (
        lambda: range_request(symbol, "2018-01-01", "2018-01-31", "1h"),
        lambda: compute_request("volatility", symbol, "2018-01-01", "2018-01-31", "1h", None),
        lambda: latest_request([symbol], ["close"], "1h"),
    ):
        with pytest.raises(InvalidRequestError, match="get_latest takes a list"):
            ask()


@pytest.mark.parametrize("columns", ["5m:sma_20", ["close", "5m:sma_20"], ["5m:close"]])
def test_a_column_of_another_timeframe_is_refused_with_how_to_ask_for_it(columns: Any) -> None:
    with pytest.raises(InvalidRequestError, match="timeframe='5m'"):
        range_request("EUR/USD", "2018-01-01", "2018-01-31", "1h", columns)
    with pytest.raises(InvalidRequestError, match="ask for 'sma_20',"):
        range_request("EUR/USD", "2018-01-01", "2018-01-31", "1h", ["1h:sma_20"])


def test_the_nearest_is_named() -> None:
    with pytest.raises(UnknownSymbolError, match="EUR/USD"):
        latest_request("EUR/USX", ["close"], "1h")
    with pytest.raises(UnknownFeatureError, match="rsi_14"):
        latest_request("EUR/USD", ["rsi_15"], "1h")
    with pytest.raises(UnknownFeatureError, match="volatility"):
        compute_request("volatilty", "EUR/USD", "2018-01-01", "2018-01-31", "1h", None)


@pytest.mark.parametrize("timeframe", ["2h", "", "1H", None, 60, []])
def test_an_unknown_timeframe_is_refused(timeframe: Any) -> None:
    with pytest.raises(InvalidRequestError, match="timeframe"):
        range_request("EUR/USD", "2018-01-01", "2018-01-31", timeframe)
    with pytest.raises(InvalidRequestError, match="timeframe"):
        latest_request("EUR/USD", ["close"], timeframe)
    with pytest.raises(InvalidRequestError, match="timeframe"):
        latest_request("EUR/USD", [f"{timeframe}:close" if timeframe else "2h:close"], "1h")


@pytest.mark.parametrize("names", [None, 5, object()], ids=["none", "a number", "an object"])
def test_what_is_no_list_of_names_is_refused(names: Any) -> None:
    with pytest.raises(InvalidRequestError):
        latest_request("EUR/USD", names, "1h")
    with pytest.raises(InvalidRequestError):
        latest_request(names, ["close"], "1h")


@pytest.mark.parametrize(
    ("symbols", "features"),
    [([], ["close"]), (["EUR/USD"], []), (["EUR/USD", "EUR/USD"], ["close"]), (["EUR/USD"], ["close", "close"])],
)
def test_nothing_and_the_same_twice_are_refused(symbols: list[str], features: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        latest_request(symbols, features, "1h")


def test_an_indicator_stands_for_its_outputs_in_order() -> None:
    request = range_request("EUR/USD", "2018-01-01", "2018-01-31", "1h", ["rsi_14", "bollinger_20_2", "close"])
    assert request.columns == ("rsi_14", "bb_upper", "bb_middle", "bb_lower", "bb_width", "bb_percent_b", "close")
    latest = latest_request("EUR/USD", ["4h:macd_12_26_9", "close"], "1h")
    assert latest.names == ("4h:macd", "4h:macd_signal", "4h:macd_hist", "close")


# ----------------------------------------------------------------------------------------------------------- keys


def test_the_same_question_in_other_words_has_the_same_key() -> None:
    spelt = [
        range_request("EUR/USD", "2018-01-01", "2018-01-31", "1h"),
        range_request("EUR/USD", date(2018, 1, 1), date(2018, 1, 31), "1h"),
        range_request("EUR/USD", "20180101", END_OF_JAN_31, "1h", ["open", "high", "low", "close", "volume"]),
    ]
    assert len({request.key for request in spelt}) == 1
    two = compute_request("sma", "EUR/USD", "2018-01-01", "2018-01-31", "1h", {"window": 5.0})
    assert two.key == compute_request("sma", "EUR/USD", "20180101", "20180131", "1h", {"window": np.int64(5)}).key


def test_different_questions_have_different_keys() -> None:
    days = ("2018-01-01", "2018-01-31")
    requests = [
        range_request("EUR/USD", *days, "1h"),
        range_request("EUR/USD", *days, "4h"),
        range_request("GBP/USD", *days, "1h"),
        range_request("EUR/USD", *days, "1h", ["close"]),
        range_request("EUR/USD", *days, "1h", ["close", "open"]),
        range_request("EUR/USD", *days, "1h", ["open", "close"]),
        range_request("EUR/USD", *days, "1h", None, "2018-03-01"),
        range_request("EUR/USD", "2018-01-02", days[1], "1h"),
        latest_request("EUR/USD", ["close"], "1h"),
        latest_request("EUR/USD", ["close"], "4h"),
        latest_request("EUR/USD", ["1h:close"], "4h"),
        latest_request("EUR/USD", ["1h:close"], "1h"),
        latest_request(["EUR/USD", "GBP/USD"], ["close"], "1h"),
        latest_request(["GBP/USD", "EUR/USD"], ["close"], "1h"),
        compute_request("sma", "EUR/USD", *days, "1h", None),
        compute_request("SMA", "EUR/USD", *days, "1h", None),
        compute_request("sma", "EUR/USD", *days, "1h", {"window": 7}),
        compute_request("sma_5", "EUR/USD", *days, "1h", None),
    ]
    assert len({request.key for request in requests}) == len(requests)


def test_a_key_begins_with_what_a_publish_names() -> None:
    days = ("2018-01-01", "2018-01-31")
    assert range_request("EUR/USD", *days, "1h").key.startswith("EUR/USD|1h|")
    assert compute_request("sma", "EUR/USD", *days, "4h", None).key.startswith("EUR/USD|4h|")
    assert latest_request("EUR/USD", ["close"], "1h").key.startswith("EUR/USD|1h|")
    assert latest_request("EUR/USD", ["close", "4h:close"], "1h").key.startswith("EUR/USD|*|")
    assert latest_request("EUR/USD", ["1h:close"], "4h").key.startswith("EUR/USD|*|")
    assert latest_request(["EUR/USD", "GBP/USD"], ["close"], "1h").key.startswith("*|")


# --------------------------------------------------------------------------------------------------- closed bars


def test_a_range_ends_with_the_last_bar_that_has_closed() -> None:
    request = range_request("EUR/USD", "2018-01-01", "2018-01-31", "1h")
    noon = int(datetime(2018, 1, 15, 12, 30, tzinfo=UTC).timestamp() * 1e6)
    assert closed_part(request, noon).end == pd.Timestamp("2018-01-15 11:30", tz="UTC")
    assert closed_part(request, noon + 90 * 86_400_000_000) is request


def test_the_labels_that_answers_share_cannot_be_written() -> None:
    request = latest_request(["EUR/USD", "GBP/USD"], ["close"], "1h")
    frame = request.layout.frame(np.zeros((2, 2)), moments_of(np.zeros(2, np.int64)), {})
    for labels in (frame.index, frame.columns):
        with pytest.raises(ValueError, match="read-only"):
            labels.values[0] = "spoilt"


def test_every_field_of_the_catalog_can_be_asked_for() -> None:
    names = [*catalog.BAR_FIELDS, *catalog.INDICATOR_FIELDS]
    assert latest_request("EUR/USD", names, "1h").names == tuple(names)
