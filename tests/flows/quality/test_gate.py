from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SESSIONS, Symbol, timeframe
from flows.quality import gate, suite
from flows.quality.suite import Evaluation

PRICES = ("open", "high", "low", "close")


def only(verdict):
    """The first broken rule of the one bad row."""
    assert verdict.bad_rows == 1
    return verdict.bad["rule"].item()


# ------------------------------------------------------------------------------------------------- good bars


def test_good_bars_pass_as_they_are(make_bars, check):
    bars = make_bars()
    verdict = check(bars)
    assert verdict.passed
    assert verdict.good is bars
    assert (verdict.reason, verdict.bad_rows, dict(verdict.by_rule)) == ("", 0, {})
    assert list(verdict.bad.columns) == [*bars.columns, "rule", "rules", "detail"]
    assert verdict.expectations == 4


def test_one_bar_passes(make_bars, check):
    assert check(make_bars(1)).passed


def test_reported_volume_and_flat_bars_pass(make_bars, check):
    bars = make_bars().assign(volume=0.0)
    bars.loc[3, [*PRICES]] = 1.1
    assert check(bars).passed


def test_columns_beyond_the_required_are_kept_and_not_judged(make_bars, check):
    bars = make_bars().assign(file="x.csv", on_grid=np.nan, high_may_be_nan=None)
    bars.loc[5, "close"] = np.nan
    verdict = check(bars)
    assert verdict.passed
    assert list(verdict.good.columns) == list(bars.columns)
    assert verdict.bad["file"].tolist() == ["x.csv"]


def test_the_index_is_the_callers(make_bars, check):
    bars = make_bars(40).set_index(pd.Index([7] * 40))
    bars.iloc[3, bars.columns.get_loc("low")] = np.inf
    before = bars.copy()
    verdict = check(bars)
    pd.testing.assert_frame_equal(bars, before)
    assert len(verdict.good) == 39
    assert verdict.bad["rule"].tolist() == ["low_not_finite"]


# -------------------------------------------------------------------------------- where bad rows slip through elsewhere


def test_an_empty_batch_does_not_pass(make_bars, check):
    verdict = check(make_bars(0))
    assert not verdict.passed
    assert verdict.reason == "empty batch"
    assert len(verdict.good) == len(verdict.bad) == verdict.rows == 0


def test_an_empty_suite_does_not_pass(make_bars):
    bars = make_bars()
    with pytest.raises(ValueError, match="no rules"):
        gate.judge(bars, (), lambda: bars, subject="bars", max_bad_share=0.05)


@pytest.mark.parametrize("name", PRICES)
def test_an_unknown_price_is_bad(make_bars, check, name):
    bars = make_bars()
    bars.loc[17, name] = np.nan
    assert only(check(bars)) == f"{name}_missing"


@pytest.mark.parametrize("name", PRICES)
def test_nothing_but_nan_does_not_pass(make_bars, check, name):
    verdict = check(make_bars().assign(**{name: np.nan}))
    assert not verdict.passed
    assert verdict.by_rule == {f"{name}_missing": 200}


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("name", BAR_FIELDS)
def test_infinity_is_bad(make_bars, check, name, value):
    bars = make_bars()
    bars.loc[17, name] = value
    assert only(check(bars)) == f"{name}_not_finite"


def test_one_bad_row_of_many_is_found(make_bars, check):
    bars = make_bars(20_000)
    bars.loc[12_345, "high"] = bars.loc[12_345, "low"] - 1e-5
    verdict = check(bars)
    assert verdict.passed
    assert verdict.bad["open_time"].tolist() == [bars.loc[12_345, "open_time"]]
    assert len(verdict.good) == 19_999


# ------------------------------------------------------------------------------------------------ each other fault


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"high": 1.0995, "open": 1.0990, "low": 1.0990, "close": 1.1}, "high_below_close"),
        ({"high": 1.0995, "open": 1.1, "low": 1.0990, "close": 1.0990}, "high_below_open"),
        ({"high": 1.1, "open": 1.0990, "low": 1.0995, "close": 1.1}, "low_above_open"),
        ({"high": 1.1, "open": 1.1, "low": 1.0995, "close": 1.0990}, "low_above_close"),
        ({"close": 0.0}, "close_not_positive"),
        ({"open": -1.1}, "open_not_positive"),
        ({"close": 110.0}, "close_out_of_bounds"),
        ({"low": 0.011}, "low_out_of_bounds"),
        ({"volume": -1.0}, "volume_negative"),
        ({"open_time": pd.NaT}, "open_time_missing"),
    ],
)
def test_a_fault_is_named_by_its_rule(make_bars, check, change, rule):
    bars = make_bars()
    for name, value in change.items():
        bars.loc[17, name] = value
    verdict = check(bars)
    assert only(verdict) == rule
    assert verdict.passed


def test_all_rules_that_a_row_breaks_are_listed(make_bars, check):
    bars = make_bars()
    bars.loc[17, "high"] = 0.9
    bad = check(bars).bad.iloc[0]
    assert bad["rule"] == "high_below_open"
    assert bad["rules"] == "high_below_open,high_below_close,high_below_low"
    assert bad["detail"] == f"open={bars.loc[17, 'open']}, high=0.9"


def test_prices_in_points_stop_the_symbol(make_bars, check):
    bars = make_bars()
    bars[[*PRICES]] *= 100
    verdict = check(bars)
    assert not verdict.passed
    assert verdict.by_rule == {f"{name}_out_of_bounds": 200 for name in PRICES}
    assert verdict.reason == "100 % of the rows are bad, at most 5 % are tolerated"


def test_a_bar_off_the_grid_is_bad(make_bars, check):
    bars = make_bars()
    on_grid = np.ones(200, dtype=bool)
    on_grid[17] = False
    verdict = check(bars, on_grid=on_grid)
    assert only(verdict) == "off_grid"
    assert verdict.bad["open_time"].item() == bars.loc[17, "open_time"]


def test_a_bar_is_good_from_the_moment_it_closes(make_bars, check):
    bars = make_bars()
    closes = (bars["open_time"].iloc[-1] + pd.Timedelta(minutes=1)).to_pydatetime()
    assert check(bars, now=closes).bad_rows == 0
    assert only(check(bars, now=closes - timedelta(microseconds=1))) == "unclosed"
    elsewhere = closes.astimezone(timezone(timedelta(hours=9)))
    assert check(bars, now=elsewhere).bad_rows == 0


def test_of_bars_that_disagree_on_one_time_none_is_stored(make_bars, check):
    bars = make_bars()
    other = bars.iloc[[17]].assign(close=bars.loc[17, "open"])
    verdict = check(pd.concat([bars.iloc[:18], other, bars.iloc[18:]]))
    assert verdict.passed
    assert verdict.by_rule == {"unique_open_time": 2}
    assert bars.loc[17, "open_time"] not in set(verdict.good["open_time"])


def test_of_repeated_bars_one_is_stored(make_bars, check):
    bars = make_bars()
    verdict = check(pd.concat([bars.iloc[:18], bars.iloc[17:]]))
    assert verdict.by_rule == {"unique_open_time": 1}
    pd.testing.assert_frame_equal(verdict.good, bars)


def test_a_bar_out_of_order_is_bad(make_bars, check):
    bars = make_bars()
    verdict = check(pd.concat([bars.iloc[:3], bars.iloc[4:], bars.iloc[[3]]]))
    assert verdict.by_rule == {"ascending_open_time": 1}


def test_newest_first_stops_the_symbol(make_bars, check):
    assert not check(make_bars().iloc[::-1]).passed


# ---------------------------------------------------------------------------------------- the batch as a whole


@pytest.mark.parametrize("name", ["open_time", *BAR_FIELDS])
def test_a_missing_column_refuses_the_batch(make_bars, check, name):
    verdict = check(make_bars().drop(columns=name))
    assert verdict.reason == f"column '{name}' is missing"
    assert (verdict.passed, verdict.rows, verdict.bad_rows, verdict.expectations) == (False, 200, 0, 0)
    assert verdict.by_rule == {"wrong_columns": 200}


def test_a_repeated_column_refuses_the_batch(make_bars, check):
    bars = make_bars()
    assert check(pd.concat([bars, bars[["close"]]], axis=1)).reason == "column 'close' is there 2 times"


@pytest.mark.parametrize(
    "convert",
    [
        lambda times: times.dt.tz_localize(None),
        lambda times: times.dt.tz_convert("America/New_York"),
        lambda times: times.dt.as_unit("ns"),
        lambda times: times.astype(str),
    ],
    ids=["naive", "other zone", "nanoseconds", "text"],
)
def test_times_other_than_utc_microseconds_refuse_the_batch(make_bars, check, convert):
    bars = make_bars()
    verdict = check(bars.assign(open_time=convert(bars["open_time"])))
    assert not verdict.passed
    assert verdict.reason.startswith("column 'open_time' is ")
    assert verdict.reason.endswith(": convert it to datetime64[us, UTC]")


@pytest.mark.parametrize("dtype", ["float32", "object", "int64", "str", "Float64"])
def test_prices_other_than_float64_refuse_the_batch(make_bars, check, dtype):
    verdict = check(make_bars().astype({"close": dtype}))
    assert not verdict.passed
    assert verdict.reason.endswith("convert it to float64")


# ------------------------------------------------------------------------------------------------------ the share


def test_the_largest_tolerated_share_still_passes(make_bars, check):
    bars = make_bars()
    bars.loc[:9, "close"] = np.nan  # 10 of 200 = 5 %
    verdict = check(bars)
    assert verdict.passed
    assert (len(verdict.good), verdict.bad_rows) == (190, 10)


def test_a_larger_share_stops_the_symbol(make_bars, check):
    bars = make_bars()
    bars.loc[:10, "close"] = np.nan
    verdict = check(bars)
    assert not verdict.passed
    assert verdict.reason == "5.5 % of the rows are bad, at most 5 % are tolerated"
    assert (len(verdict.good), verdict.bad_rows, len(verdict.bad)) == (0, 11, 11)


def test_no_share_at_all(make_bars, check):
    bars = make_bars()
    assert check(bars, max_bad_share=0).passed
    bars.loc[3, "close"] = np.nan
    assert not check(bars, max_bad_share=0).passed


@pytest.mark.parametrize("share", [-0.1, 1, float("nan")])
def test_an_invalid_share_is_refused(make_bars, check, share):
    with pytest.raises(ValueError, match="max_bad_share"):
        check(make_bars(), max_bad_share=share)


def test_a_naive_now_is_refused(make_bars, check):
    with pytest.raises(ValueError, match="time zone"):
        check(make_bars(), now=datetime(2024, 3, 1))  # noqa: DTZ001


@pytest.mark.parametrize("on_grid", [np.ones(199, dtype=bool), np.ones(200)])
def test_flags_that_do_not_fit_are_refused(make_bars, check, on_grid):
    with pytest.raises(ValueError, match="on_grid must be booleans"):
        check(make_bars(), on_grid=on_grid)


# ----------------------------------------------------------------------------------------------------- fail closed


def test_fault_that_no_mask_finds_stops_the_symbol(make_bars, check, monkeypatch):
    failed = Evaluation(success=False, expectations=7, failed=("expect_anything (close)",))
    monkeypatch.setattr(suite, "evaluate", lambda *_: failed)
    verdict = check(make_bars())
    assert not verdict.passed
    assert verdict.reason.startswith("great-expectations and the masks disagree: expect_anything (close) fails")
    assert verdict.good.empty


def test_fault_left_in_the_good_rows_stops_the_symbol(make_bars, check, monkeypatch):

    def blind(rule, table):
        return (np.arange(len(table)) == 0) & (rule.name == "close_missing")

    monkeypatch.setattr(gate, "bad_rows", blind)
    verdict = check(make_bars().assign(close=np.nan))
    assert not verdict.passed
    assert "disagree" in verdict.reason
    assert verdict.good.empty


NUMBERS = st.sampled_from([1.1, 1.1, 1.1, 1.2, 1.0, 0.0, -1.0, 110.0, np.nan, np.inf, -np.inf])


@given(
    rows=st.lists(st.tuples(st.integers(0, 30), NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=12),
    in_order=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_good_or_bad_and_good_rows_are_bars(check, rows, in_order):
    rows = sorted(rows, key=lambda row: row[0]) if in_order else rows
    bars = pd.DataFrame(rows, columns=["open_time", *BAR_FIELDS]).astype(dict.fromkeys(BAR_FIELDS, "float64"))
    bars["open_time"] = (pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(bars["open_time"], "min")).dt.as_unit(
        "us"
    )
    verdict = check(bars, max_bad_share=0.999)
    assert "disagree" not in verdict.reason
    assert verdict.passed is (verdict.bad_rows < len(bars))
    if verdict.passed:
        assert sorted([*verdict.good.index, *verdict.bad.index]) == [*range(len(bars))]
    good = verdict.good
    assert good["open_time"].is_monotonic_increasing
    assert good["open_time"].is_unique
    for bar in good.itertuples():
        assert 0.3 <= bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high <= 3.5
        assert np.isnan(bar.volume) or 0 <= bar.volume < np.inf


# ----------------------------------------------------------------------------------------------------- indicators


def test_good_indicators_pass(make_indicators, check_rows):
    rows = make_indicators()
    verdict = check_rows(rows)
    assert verdict.passed
    assert verdict.good is rows


def test_no_indicator_rows_do_not_pass(make_indicators, check_rows):
    assert check_rows(make_indicators(0)).reason == "empty batch"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("rsi_14", 100.001, "rsi_14_out_of_bounds"),
        ("rsi_14", -0.001, "rsi_14_out_of_bounds"),
        ("williams_r_14", 0.001, "williams_r_14_out_of_bounds"),
        ("sma_20", -1.0, "sma_20_out_of_bounds"),
        ("macd", np.inf, "macd_not_finite"),
        ("sma_20", np.inf, "sma_20_not_finite"),
        ("macd", np.nan, "macd_missing"),
    ],
)
def test_an_indicator_fault_names_its_field(make_indicators, check_rows, name, value, rule):
    rows = make_indicators()
    rows.loc[17, name] = value
    verdict = check_rows(rows)
    assert only(verdict) == rule
    assert verdict.bad["detail"].item() == f"{name}={value}"
    assert verdict.passed


def test_rounding_beyond_a_bound_is_no_fault(make_indicators, check_rows):
    rows = make_indicators()
    rows.loc[17, "rsi_14"] = 100 + 1e-8
    rows.loc[18, "williams_r_14"] = 1e-8
    assert check_rows(rows).bad_rows == 0


def test_indicators_of_nothing_but_nan_do_not_pass(make_indicators, check_rows):
    verdict = check_rows(make_indicators().assign(**dict.fromkeys(INDICATOR_FIELDS, np.nan)))
    assert not verdict.passed
    assert verdict.by_rule == {f"{name}_missing": 200 for name in INDICATOR_FIELDS}


def test_nan_passes_where_it_is_allowed_only(make_indicators, check_rows):
    rows = make_indicators()
    rows.loc[:18, "sma_20"] = np.nan
    rows.loc[:20, "rsi_14"] = np.nan
    warm_up = np.arange(200) < 19
    verdict = check_rows(rows, may_be_nan={"sma_20": warm_up, "rsi_14": warm_up})
    assert verdict.by_rule == {"rsi_14_missing": 2}


def test_infinity_does_not_pass_where_nan_may(make_indicators, check_rows):
    rows = make_indicators()
    rows.loc[0, "macd"] = np.inf
    assert only(check_rows(rows, may_be_nan={"macd": np.ones(200, dtype=bool)})) == "macd_not_finite"


def test_indicator_rows_that_disagree_on_one_time_are_bad(make_indicators, check_rows):
    rows = make_indicators()
    rows.loc[17, "event_timestamp"] = rows.loc[16, "event_timestamp"]
    rows.loc[17, "macd"] = 2.0
    assert check_rows(rows).by_rule == {"unique_event_timestamp": 2}


def test_a_missing_indicator_refuses_the_batch(make_indicators, check_rows):
    assert check_rows(make_indicators().drop(columns="macd")).reason == "column 'macd' is missing"


def test_may_be_nan_must_name_every_field(make_indicators):
    with pytest.raises(ValueError, match="may_be_nan lacks sma_5, sma_10"):
        gate.check_indicators(make_indicators(), may_be_nan={})


# ------------------------------------------------------------------------------------------- order, within rounding


@pytest.mark.parametrize(("name", "other"), [("high", "close"), ("high", "open"), ("low", "close"), ("low", "open")])
@pytest.mark.parametrize("rounding", [2e-16, 9e-13])
def test_a_rounding_of_an_adjusted_price_is_no_disorder(make_bars, check, name, other, rounding):
    bars = make_bars()
    sign = -1 if name == "high" else 1
    bars.loc[17, [*PRICES]] = 1.1
    bars.loc[17, name] = bars.loc[17, other] * (1 + sign * rounding)
    assert bars.loc[17, name] != 1.1
    verdict = check(bars)
    assert verdict.bad_rows == 0
    assert verdict.good is bars
    bars.loc[17, name] = bars.loc[17, other] * (1 + sign * 1e-11)
    assert check(bars).bad_rows == 1


# --------------------------------------------------------------------------------------------------- below zero


def below_zero(frame, lowest):
    oil = Symbol(name="CL", session=SESSIONS["24x7"], digits=2, price_min=lowest, price_max=1000.0)
    on_grid = np.ones(len(frame), dtype=bool)
    now = datetime(2024, 3, 1, tzinfo=UTC)
    return gate.check_bars(frame, symbol=oil, timeframe=timeframe("1m"), now=now, on_grid=on_grid)


def test_a_symbol_whose_lowest_price_is_below_zero_may_be_below_zero(make_bars):
    bars = make_bars()
    bars.loc[17, [*PRICES]] = [17.7, 17.8, -40.3, -37.6]
    bars.loc[18, [*PRICES]] = [-14.0, 13.9, -16.7, 0.0]
    assert below_zero(bars, -1000.0).bad_rows == 0
    assert below_zero(bars, 0.0).bad["rule"].tolist() == ["low_not_positive", "open_not_positive"]
    bars.loc[19, "low"] = -1000.01
    assert only(below_zero(bars, -1000.0)) == "low_out_of_bounds"


# ----------------------------------------------------------------------------------------------- units and bases


def test_a_bar_in_another_unit_is_bad_when_stored_bars_are_there_to_compare(make_bars, check):
    bars = make_bars()
    bars.loc[17, [*PRICES]] *= 2.5  # within the symbol's bounds
    verdict = check(bars, around=bars.iloc[:0])
    assert only(verdict) == "unit_error"
    assert verdict.bad["detail"].item().startswith("unit_factor=2.5")
    assert verdict.passed
    assert check(bars).bad_rows == 0, "derived bars are taken in the unit of their sources"


def test_a_batch_in_another_unit_than_the_stored_bars_names_factor_time_and_remedy(make_bars, check):
    bars = make_bars()
    fresh = bars.iloc[100:].reset_index(drop=True)
    fresh[[*PRICES]] /= 2
    verdict = check(fresh, around=bars.iloc[:100])
    assert not verdict.passed
    assert verdict.by_rule == {"unit_error": 100}
    assert verdict.reason.startswith(
        "100 % of the rows are bad, at most 5 % are tolerated; 100 bars from 2024-01-01 01:40 to 2024-01-01 03:19 UTC "
        "are 0.5 times the prices beside them"
    )
    assert check(fresh).passed
