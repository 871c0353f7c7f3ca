"""Features computed when asked for: the catalog's kinds, TA-Lib's functions, and a user's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from talib import abstract

from feature_repo.catalog import BAR_FIELDS, INDICATORS, PRODUCER, SYMBOLS, TIMEFRAMES
from feature_repo.indicators import kernel_inputs
from feature_repo.kinds import KINDS
from fsclient import FeatureStoreClient, InvalidRequestError, UnknownFeatureError, feature
from fsclient.computed.computable import MOST_STEPS
from fsclient.computed.find import computable
from fsclient.computed.kinds import templates
from fsclient.computed.registered import registered
from tests.fsclient.stack import (
    KNOWN_WITHOUT_DATA,
    MINUTES,
    NEWEST,
    START,
    Market,
    bars_from,
    hearing,
    make_bars,
    reasons,
    source,
)

Make = Callable[..., FeatureStoreClient]
DAYS = ("2024-06-20", "2024-06-26")
FIRST = datetime(2024, 6, 20, tzinfo=UTC)
TALIB = sorted(set(talib.get_functions()) - {"MAVP"})  # MAVP takes a period for each bar, which no bar has
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def long_history() -> dict[str, Any]:
    """Kernel inputs of 30,000 hourly bars: enough that a beginning is forgotten, or is not."""
    bars = make_bars("EUR/USD", "1h", datetime(2019, 1, 1, tzinfo=UTC), NEWEST, seed=4)
    opens = bars["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    columns = {name: bars[name].to_numpy() for name in BAR_FIELDS}
    return kernel_inputs(SYMBOLS["EUR/USD"].session, TIMEFRAMES["1h"], opens, columns)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)


def bare(name: str, columns: Mapping[str, Any], **parameters: Any) -> list[Any]:
    """TA-Lib's own, over all history."""
    outputs = abstract.Function(name)({column: columns[column] for column in BAR_FIELDS}, **parameters)
    return [np.asarray(a, dtype=float) for a in (outputs if isinstance(outputs, list) else [outputs])]


# --------------------------------------------------------------------------------------------------- through the client


async def test_every_function_of_talib_equals_bare_talib_over_all_history(make_client: Make, market: Market) -> None:
    client = make_client(timeout_s=60.0)
    bars = bars_from(market.tables, "EUR/USD", "1h")
    first = int(np.searchsorted(bars["open_time"], np.datetime64(FIRST.replace(tzinfo=None), "us")))
    frames = await asyncio.gather(*(client.compute_feature(name, "EUR/USD", *DAYS) for name in TALIB))
    for name, frame in zip(TALIB, frames, strict=True):
        truth = np.column_stack(bare(name, bars))[first:]
        np.testing.assert_allclose(np.asarray(frame).reshape(truth.shape), truth, err_msg=name, **CLOSE)
        assert source(frame) == "recomputed"


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_the_catalog_equals_its_stored_indicator(kind: str, client: FeatureStoreClient) -> None:
    template = templates()[kind]
    stored = await client.get_indicators("EUR/USD", *DAYS, "1h", template.outputs)
    computed = await client.compute_feature(kind, "EUR/USD", *DAYS)
    assert isinstance(computed, pd.Series) == (len(template.outputs) == 1)
    assert computed.index.equals(stored.index)
    np.testing.assert_allclose(np.asarray(computed).reshape(stored.shape), stored, **CLOSE)
    if isinstance(computed, pd.DataFrame):
        assert list(computed.columns) == list(template.outputs)
    else:
        assert computed.name == kind


async def test_a_field_of_the_catalog_can_be_computed_by_its_name(client: FeatureStoreClient) -> None:
    stored = await client.get_indicators("EUR/USD", *DAYS, "1h", ["ema_50"])
    computed = await client.compute_feature("ema_50", "EUR/USD", *DAYS)
    assert computed.name == "ema_50"
    np.testing.assert_allclose(computed, stored["ema_50"], **CLOSE)


@pytest.mark.parametrize(
    ("name", "parameters", "function"),
    [
        ("sma", {"window": 7}, lambda c: talib.SMA(c, 7)),
        ("ema", {"window": 33}, lambda c: talib.EMA(c, 33)),
        ("rsi", {"window": 40}, lambda c: talib.RSI(c, 40)),
        ("volatility", {"window": 14}, lambda c: talib.STDDEV(np.log(talib.ROCR(c, 1)), 14)),
        ("roc", {"window": 1.0}, lambda c: talib.ROC(c, 1)),
        ("EMA", {"timeperiod": np.int64(33)}, lambda c: talib.EMA(c, 33)),
        ("Rsi", {"timeperiod": 5}, lambda c: talib.RSI(c, 5)),
        ("MA", {"timeperiod": 20, "matype": 6}, lambda c: talib.KAMA(c, 20)),
    ],
    ids=lambda value: str(value) if not callable(value) else "",
)
async def test_parameters_of_the_callers_own(
    name: str, parameters: dict[str, Any], function: Callable[[Any], Any], client: FeatureStoreClient, market: Market
) -> None:
    series = await client.compute_feature(name, "EUR/USD", *DAYS, parameters=parameters)
    truth = function(bars_from(market.tables, "EUR/USD", "1h")["close"])
    np.testing.assert_allclose(series, truth[-len(series) :], **CLOSE)
    assert not series.isna().any()


async def test_at_the_beginning_of_history_warm_up_is_nan_and_told(client: FeatureStoreClient) -> None:
    series = await client.compute_feature("sma", "EUR/USD", START, "2024-02-02", parameters={"window": 20})
    assert series.isna().sum() == 19
    assert series.attrs["provenance"]["missing"] == [
        {"symbol": "EUR/USD", "feature": "sma", "reason": "warm_up", "bars": 19}
    ]


@pytest.mark.parametrize("name", ["sma", "RSI", "macd", "MACD", "OBV", "HA", "vwap"])
async def test_a_known_symbol_without_data_is_no_error(name: str, client: FeatureStoreClient) -> None:
    series = await client.compute_feature(name, KNOWN_WITHOUT_DATA, *DAYS)
    assert (len(series), reasons(series)) == (0, {"no_data"})


async def test_the_answer_is_the_callers_own(client: FeatureStoreClient) -> None:
    first = await client.compute_feature("sma", "EUR/USD", *DAYS)
    second = await client.compute_feature("sma", "EUR/USD", *DAYS)
    first.iloc[:] = 0.0
    first.attrs["provenance"]["missing"].append("spoilt")
    assert second.gt(0).all()
    assert second.attrs["provenance"]["missing"] == []


# --------------------------------------------------------------------------------------------------- warm-up, causality


@pytest.mark.parametrize("name", [*TALIB, *KINDS])
def test_the_warm_up_suffices_and_later_bars_change_nothing(name: str, long_history: dict[str, Any]) -> None:
    function = computable(name)
    parameters = function.with_parameters(None)
    n = len(long_history["close"])
    whole = function.run(long_history, parameters)

    warm_up, start = function.warm_up(parameters), n - 200
    first = 0 if warm_up is None else max(0, start - warm_up)
    late = function.run({key: values[first:] for key, values in long_history.items()}, parameters)
    cut = function.run({key: values[:start] for key, values in long_history.items()}, parameters)
    for output, values in whole.items():
        np.testing.assert_allclose(late[output][start - first :], values[start:], err_msg=output, **CLOSE)
        np.testing.assert_array_equal(cut[output], values[:start], err_msg=output)


@given(cut=st.integers(1, 399), name=st.sampled_from([*TALIB, *KINDS]))
@settings(max_examples=200, deadline=None)
def test_cutting_later_bars_changes_nothing(cut: int, name: str, long_history: dict[str, Any]) -> None:
    function = computable(name)
    bars = {key: values[:400] for key, values in long_history.items()}
    whole = function.run(bars, function.with_parameters(None))
    for output, values in function.run({k: v[:cut] for k, v in bars.items()}, function.with_parameters(None)).items():
        np.testing.assert_array_equal(values, whole[output][:cut], err_msg=f"{name} {output}")


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("sma", {"windw": 3}, "no parameter 'windw'; it takes window"),
        ("RSI", {"window": 3}, "no parameter 'window'; it takes timeperiod=14"),
        ("sma", {"window": "3"}, "window must be a number"),
        ("sma", {"window": 2.5}, "window must be a whole number"),
        ("sma", {"window": True}, "window must be a number"),
        ("sma", {"window": None}, "window must be a number"),
        ("sma", {"window": float("nan")}, "window must be a number"),
        ("bollinger", {"deviations": float("inf")}, "deviations must be a number"),
        ("sma", {"window": 0}, "sma"),
        ("ema", {"window": -5}, "ema"),
        ("RSI", {"timeperiod": 1}, "out of its range"),
        ("RSI", {"timeperiod": 2**40}, "RSI"),
        ("MA", {"matype": 99}, "out of its range"),
        ("SAR", {"acceleration": -5.0}, "SAR"),
        ("returns", {"window": 3}, "no parameter 'window'; it takes none"),
        ("sma", 5, "parameters must be a dict"),
    ],
    ids=str,
)
async def test_a_wrong_parameter_is_named(name: str, parameters: Any, message: str, client: FeatureStoreClient) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        await client.compute_feature(name, "EUR/USD", *DAYS, parameters=parameters)


async def test_a_window_longer_than_prices_go_back_is_no_crash(client: FeatureStoreClient) -> None:
    """Fault: 100,000 daily bars and their warm-up reach back before the year 1."""
    series = await client.compute_feature("RSI", "EUR/USD", *DAYS, parameters={"timeperiod": 100_000})
    assert series.isna().all()


@pytest.mark.parametrize("name", ["MAVP", "", "no such thing", "rsi_15", None, ["rsi"], 5], ids=str)
async def test_an_unknown_feature_is_told(name: Any, client: FeatureStoreClient) -> None:
    with pytest.raises(UnknownFeatureError):
        await client.compute_feature(name, "EUR/USD", *DAYS)


# ------------------------------------------------------------------------------------------------------------ @feature


async def test_a_registered_feature_is_computed_over_all_history_unless_it_says_less(
    client: FeatureStoreClient, market: Market
) -> None:
    lengths: list[int] = []

    @feature("range_mean", inputs=("high", "low"), window=10)
    def range_mean(high: Any, low: Any, *, window: int) -> Any:
        lengths.append(len(high))
        return talib.SMA(high - low, window)

    bars = bars_from(market.tables, "EUR/USD", "1h")
    for parameters, window in ((None, 10), ({"window": 25}, 25)):
        series = await client.compute_feature("range_mean", "EUR/USD", *DAYS, parameters=parameters)
        np.testing.assert_allclose(series, talib.SMA(bars["high"] - bars["low"], window)[-len(series) :], **CLOSE)
        assert series.name == "range_mean"
    assert lengths == [len(bars["close"])] * 2

    feature("short", lookback=3)(lambda close: talib.SMA(close, 4))
    series = await client.compute_feature("short", "EUR/USD", *DAYS)
    np.testing.assert_allclose(series, talib.SMA(bars["close"], 4)[-len(series) :], **CLOSE)


async def test_a_feature_may_have_several_outputs_and_parameters_of_any_plain_kind(client: FeatureStoreClient) -> None:
    @feature("both", inputs="close", scale=1.0, upper=True, mode="plain", limit=None)
    def both(close: Any, *, scale: float, upper: bool, mode: str, limit: float | None) -> Any:
        assert mode in ("plain", "fancy")
        return {"up": close * scale if upper else close, "down": -close if limit is None else close * 0 + limit}

    frame = await client.compute_feature("both", "EUR/USD", *DAYS, parameters={"upper": False, "mode": "fancy"})
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["up", "down"]
    limited = await client.compute_feature("both", "EUR/USD", *DAYS, parameters={"limit": 2.5, "scale": 3})
    assert isinstance(limited, pd.DataFrame)
    assert set(limited["down"]) == {2.5}
    with pytest.raises(InvalidRequestError, match="mode must be"):  # an array's text is cut, so no key can hold one
        await client.compute_feature("both", "EUR/USD", *DAYS, parameters={"mode": np.zeros(5000)})


async def test_a_feature_that_is_registered_anew_is_not_answered_by_the_old_one(client: FeatureStoreClient) -> None:
    """As in a notebook, where the cell is run again."""
    await hearing(client)
    for value in (1.0, 2.0):
        feature("mine")(lambda close, value=value: np.full(len(close), value))
        series = await client.compute_feature("mine", "EUR/USD", *DAYS)
        assert set(series) == {value}


@pytest.mark.parametrize("error", [ValueError, RuntimeError, OSError, TimeoutError, KeyError])
async def test_a_feature_that_fails_is_the_callers_mistake_and_no_outage(
    error: type[Exception], client: FeatureStoreClient
) -> None:
    @feature("breaks")
    def breaks(close: Any) -> Any:
        raise error("what it says")

    with pytest.raises(InvalidRequestError, match=r"'breaks' failed: .*what it says"):
        await client.compute_feature("breaks", "EUR/USD", *DAYS)


@pytest.mark.parametrize(
    "result", [lambda c: c[:-1], lambda _: 5.0, lambda _: None, lambda c: ["x"] * len(c), lambda c: {"a": c[1:]}]
)
async def test_a_feature_that_gives_no_value_for_each_bar_is_told(
    result: Callable[[Any], Any], client: FeatureStoreClient
) -> None:
    feature("odd")(result)
    with pytest.raises(InvalidRequestError, match="odd"):
        await client.compute_feature("odd", "EUR/USD", *DAYS)


@pytest.mark.parametrize("name", ["sma", "rsi_14", "rsi", "RSI", "Macd", "cdldoji"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="choose another"):
        feature(name)


@pytest.mark.parametrize("options", [{"inputs": ("price",)}, {"inputs": ("session_day",)}, {"lookback": -1}], ids=str)
def test_a_registration_that_can_not_be_meant_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="mine"):
        feature("mine", **options)


def test_every_field_has_a_producer_that_can_be_computed() -> None:
    for field in PRODUCER:
        assert computable(field).name == field


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("zscore", {"window": 3_000}), ("bollinger", {"window": 50_000}), ("CCI", {"timeperiod": 3_000})],
)
async def test_what_would_keep_a_thread_busy_past_any_deadline_is_refused(
    make_client: Make, name: str, parameters: dict[str, int]
) -> None:
    """Fault: a window so long over so many bars that each value costs what a whole lookup may."""
    client = make_client(timeout_s=10, on_unavailable="fail")
    with pytest.raises(InvalidRequestError, match="ask for a shorter range or window"):
        await client.compute_feature(name, MINUTES, "2023-06-01", "2024-05-31", "1m", parameters)
    # A running sum costs the same whatever its window.
    week = await client.compute_feature("sma", MINUTES, "2024-05-01", "2024-05-02", "1m", {"window": 10_080})
    assert not week.isna().any()


@given(window=st.integers(2, 20_000), bars=st.integers(0, 400_000))
def test_the_bound_is_on_bars_times_window(window: int, bars: int) -> None:
    zscore = computable("zscore")
    too_much = bars * min(window, bars) > MOST_STEPS
    columns = {"close": np.ones(bars)}
    instant = replace(zscore, run=lambda *_: {})
    if too_much:
        with pytest.raises(InvalidRequestError):
            instant.compute(columns, {"window": window})
    else:
        assert instant.compute(columns, {"window": window}) == {}


def test_every_kind_with_several_indicators_has_a_usual_one() -> None:
    several = {kind for kind, n in Counter(i.kind.name for i in INDICATORS.values()).items() if n > 1}
    assert {kind: dict(templates()[kind].parameters) for kind in several} == {
        "sma": {"window": 20}, "ema": {"window": 20}, "rsi": {"window": 14},
    }  # fmt: skip


@pytest.mark.parametrize(("name", "window"), [*product(("rsi", "roc"), (-1, 0, 10**9)), ("rsi", 1)])
def test_a_window_out_of_range_is_told_in_the_callers_words(name: str, window: int) -> None:
    function = computable(name)
    columns = {field: np.linspace(1.0, 2.0, 50) for field in BAR_FIELDS}
    with pytest.raises(
        InvalidRequestError, match=rf"{name} with {{'window': {window}}}: .* out of its range \(of most"
    ):
        function.compute(columns, function.with_parameters({"window": window}))


@pytest.mark.parametrize("name", ["zscore", "volatility"])
def test_a_refusal_names_the_feature_once(name: str) -> None:
    function = computable(name)
    columns = {field: np.linspace(1.0, 2.0, 50) for field in BAR_FIELDS}
    with pytest.raises(
        InvalidRequestError, match=rf"^{name} with {{'window': 1}}: window must be at least 2 bars, was 1$"
    ):
        function.compute(columns, function.with_parameters({"window": 1}))


@pytest.mark.parametrize(
    ("name", "near"), [("Rsi14", "rsi_14"), ("bollinger_bands", "bollinger"), ("macdext2", "MACDEXT")]
)
def test_the_nearest_name_is_told_whatever_its_case(name: str, near: str) -> None:
    with pytest.raises(UnknownFeatureError, match=f"Did you mean .*{near}"):
        computable(name)


def test_the_one_function_that_bars_do_not_feed_says_so() -> None:
    with pytest.raises(UnknownFeatureError, match="takes a period for each bar"):
        computable("mavp")
