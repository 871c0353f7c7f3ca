import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import SESSIONS, TIMEFRAMES, Session, Timeframe
from feature_repo.sessions import bar_close, expected_opens, grid_open, is_open
from flows.compute.derive import derive_bars, opens_us

FX, ALWAYS, US = SESSIONS["fx"], SESSIONS["24x7"], SESSIONS["us_equity"]
BERLIN = Session(name="berlin", kind="24x7", timezone="Europe/Berlin")
HOW = {"open": "first", "high": "max", "low": "min", "close": "last"}
MINUTE, HOUR, FOUR_HOURS, DAY = (TIMEFRAMES[name] for name in ("1m", "1h", "4h", "1d"))


def us(moment: str) -> int:
    return int(np.datetime64(moment, "us").astype(np.int64))


def bars_at(opens: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """A random walk with a bar at each open; its volumes span many magnitudes, so the order of a sum shows."""
    random = np.random.default_rng(seed)
    close = np.exp(random.normal(0, 0.001, opens.size).cumsum())
    open_ = np.append(1.0, close)[:-1]
    edges = np.vstack([open_, close])
    return pd.DataFrame(
        {
            "open_time": pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"),
            "open": open_,
            "high": edges.max(axis=0) * (1 + random.exponential(0.001, opens.size)),
            "low": edges.min(axis=0) * (1 - random.exponential(0.001, opens.size)),
            "close": close,
            "volume": random.lognormal(0, 8, opens.size),
        }
    )


def expected_bars(session: Session, timeframe: Timeframe, start: str, end: str) -> pd.DataFrame:
    return bars_at(expected_opens(session, timeframe, us(start), us(end)))


def prices_and_volume(groups: object) -> pd.DataFrame:
    aggregated = groups.agg(HOW)  # type: ignore[attr-defined]
    return aggregated.assign(volume=groups["volume"].sum(min_count=1))  # type: ignore[index]


@st.composite
def broken_series(draw: st.DrawFn) -> tuple[Session, Timeframe, Timeframe, pd.DataFrame]:
    """Bars with holes, some outside of trading hours, some without volume, over both of a year's clock changes."""
    session = draw(st.sampled_from([FX, ALWAYS, US, BERLIN]))
    names = draw(st.sampled_from([("15m", "1h"), ("1h", "4h"), ("1h", "1d"), ("4h", "1d")]))
    source, target = (TIMEFRAMES[name] for name in names)
    start = us(draw(st.sampled_from(["2018-03-08T07:00", "2018-03-23", "2018-10-26", "2018-11-01T15:00"])))
    moments = draw(st.lists(st.integers(0, 5 * 24 * 60 - 1), max_size=60))
    opens = np.unique(grid_open(session, source, start + np.array(moments, np.int64) * 60_000_000))
    bars = bars_at(opens)
    bars.loc[draw(st.lists(st.integers(0, 59), max_size=20).map(bars.index.intersection)), "volume"] = np.nan
    return session, source, target, bars


# -------------------------------------------------------------------------------------------------- properties


@settings(deadline=None)  # the first example with an exchange builds its calendar
@given(broken_series())
def test_every_source_bar_of_an_open_market_falls_into_exactly_one_target_bar(case: tuple) -> None:
    session, source, target, bars = case
    forever = us("2019-01-01")
    derived = derive_bars(bars, session=session, source=source, target=target, watermark_us=forever)
    bars = bars[is_open(session, opens_us(bars), source)]
    assert derived["source_bars"].sum() == len(bars)
    assert (derived["source_bars"] <= derived["expected_bars"]).all()
    assert (derived["source_bars"] >= 1).all()
    assert derived["open_time"].is_monotonic_increasing
    assert derived["open_time"].is_unique
    assert np.nansum(derived["volume"]) == pytest.approx(np.nansum(bars["volume"]), rel=1e-12)
    for bar in derived.itertuples():
        opened = bar.open_time.value // 1000
        closed = int(bar_close(session, target, np.array([opened]))[0])
        inside = bars[(opens_us(bars) >= opened) & (opens_us(bars) < closed)]
        assert len(inside) == bar.source_bars
        assert expected_opens(session, source, opened, closed).size == bar.expected_bars
        assert (bar.open, bar.close) == (inside["open"].iloc[0], inside["close"].iloc[-1])
        assert (bar.high, bar.low) == (inside["high"].max(), inside["low"].min())
        assert np.isnan(bar.volume) == inside["volume"].isna().all()


@settings(deadline=None)
@given(broken_series(), st.integers(0, 60))
def test_cutting_the_future_changes_no_bar_that_had_closed(case: tuple, kept: int) -> None:
    session, source, target, bars = case
    past = bars.iloc[:kept]
    known_to = int(bar_close(session, source, opens_us(past))[-1]) if len(past) else 0
    derived = derive_bars(bars, session=session, source=source, target=target)
    closed = bar_close(session, target, opens_us(derived)) <= known_to
    pd.testing.assert_frame_equal(
        derive_bars(past, session=session, source=source, target=target), derived[closed], check_exact=True
    )


@settings(deadline=None, max_examples=30)
@given(broken_series())
def test_deriving_in_two_steps_is_deriving_in_one(case: tuple) -> None:
    session, _, _, bars = case
    quarters = bars_at(np.unique(grid_open(session, TIMEFRAMES["15m"], opens_us(bars))))
    end = us("2019-01-01")
    hours = derive_bars(quarters, session=session, source=TIMEFRAMES["15m"], target=HOUR, watermark_us=end)
    twice = derive_bars(hours, session=session, source=HOUR, target=DAY, watermark_us=end)
    once = derive_bars(quarters, session=session, source=TIMEFRAMES["15m"], target=DAY, watermark_us=end)
    columns = ["open_time", "open", "high", "low", "close"]
    pd.testing.assert_frame_equal(twice[columns], once[columns], check_exact=True)


# ----------------------------------------------------------------------------------------- pandas' own resample


@pytest.mark.parametrize("target", ["5m", "15m", "30m", "1h", "4h", "1d"])
@pytest.mark.parametrize("session", [FX, ALWAYS], ids=lambda s: s.name)
def test_equals_pandas_resample_to_the_last_bit(session: Session, target: str) -> None:
    bars = expected_bars(session, MINUTE, "2018-06-03T21:00", "2018-06-12T21:00")
    bars = bars[np.random.default_rng(1).random(len(bars)) < 0.9].reset_index(drop=True)
    bars.loc[200:900, "volume"] = np.nan
    derived = derive_bars(
        bars, session=session, source=MINUTE, target=TIMEFRAMES[target], watermark_us=us("2018-06-13T21:00")
    )
    origin = pd.Timestamp("2018-06-03T21:00" if session is FX else "2018-06-03", tz="UTC")
    length = pd.Timedelta(seconds=TIMEFRAMES[target].seconds)
    resampled = prices_and_volume(
        bars.set_index("open_time").resample(length, label="left", closed="left", origin=origin)
    )
    resampled = resampled.dropna(subset=["open"])  # resample also returns rows without any bar
    pd.testing.assert_frame_equal(
        derived.set_index("open_time")[list(resampled)], resampled, check_exact=True, check_freq=False
    )


@pytest.mark.parametrize(("start", "end"), [("2018-03-04", "2018-03-20"), ("2018-10-28", "2018-11-13")])
def test_fx_days_across_a_switch_equal_groups_of_new_york_dates(start: str, end: str) -> None:
    bars = expected_bars(FX, HOUR, start, end)
    derived = derive_bars(bars, session=FX, source=HOUR, target=DAY)
    new_york = bars["open_time"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    groups = prices_and_volume(bars.groupby((new_york + pd.Timedelta(hours=7)).dt.date))
    pd.testing.assert_frame_equal(
        derived[list(groups)], groups.iloc[: len(derived)].reset_index(drop=True), check_exact=True
    )
    assert derived["source_bars"].eq(24).all()
    assert derived["expected_bars"].eq(24).all()
    assert set(derived["open_time"].dt.hour) == {21, 22}


# ------------------------------------------------------------------------------------------------- single cases


def test_an_unfinished_last_bar_is_held_back() -> None:
    bars = expected_bars(ALWAYS, MINUTE, "2018-01-01T00:00", "2018-01-01T01:59")
    assert len(derive_bars(bars, session=ALWAYS, source=MINUTE, target=HOUR)) == 1
    full = expected_bars(ALWAYS, MINUTE, "2018-01-01T00:00", "2018-01-01T02:00")
    assert len(derive_bars(full, session=ALWAYS, source=MINUTE, target=HOUR)) == 2


def test_a_watermark_closes_a_bar_whose_last_minutes_had_no_trade() -> None:
    bars = expected_bars(ALWAYS, MINUTE, "2018-01-01T00:00", "2018-01-01T01:50")
    early, late = (
        derive_bars(bars, session=ALWAYS, source=MINUTE, target=HOUR, watermark_us=us(moment))
        for moment in ("2018-01-01T01:59", "2018-01-01T02:00")
    )
    assert len(early) == 1
    assert late["source_bars"].tolist() == [60, 50]
    assert late["expected_bars"].tolist() == [60, 60]


def test_a_watermark_in_the_past_takes_nothing_back() -> None:
    bars = expected_bars(ALWAYS, MINUTE, "2018-01-01", "2018-01-01T02:00")
    assert len(derive_bars(bars, session=ALWAYS, source=MINUTE, target=HOUR, watermark_us=0)) == 2


def test_a_first_bar_without_its_beginning_says_so() -> None:
    bars = expected_bars(FX, HOUR, "2018-06-05T10:00", "2018-06-05T21:00")
    day = derive_bars(bars, session=FX, source=HOUR, target=DAY)
    assert day[["source_bars", "expected_bars"]].to_numpy().tolist() == [[11, 24]]


def test_us_equity_expects_the_hours_of_a_half_day() -> None:
    bars = expected_bars(US, HOUR, "2018-11-21", "2018-11-24")
    days = derive_bars(bars, session=US, source=HOUR, target=DAY, watermark_us=us("2018-11-24"))
    assert days["expected_bars"].tolist() == [7, 4]
    assert days["source_bars"].tolist() == [7, 4]


def test_bars_of_a_closed_market_make_no_bar() -> None:
    bars = bars_at(expected_opens(ALWAYS, HOUR, us("2018-06-08T17:00"), us("2018-06-10T21:00")))  # a weekend
    four = derive_bars(bars, session=FX, source=HOUR, target=FOUR_HOURS)
    assert four["open_time"].astype(str).tolist() == ["2018-06-08 17:00:00+00:00"]
    assert four[["source_bars", "expected_bars"]].to_numpy().tolist() == [[4, 4]]
    assert derive_bars(bars[4:], session=FX, source=HOUR, target=DAY).empty


def test_a_daily_bar_of_a_stock_is_made_of_its_trading_hours() -> None:
    """Hourly bars from 04:00 to 20:00 New York: the last hour of Friday lies on Saturday, as UTC counts."""
    friday = np.arange(us("2024-01-05T09:00"), us("2024-01-06T01:00"), HOUR.microseconds)
    monday = np.arange(us("2024-01-08T09:00"), us("2024-01-09T01:00"), HOUR.microseconds)
    bars = bars_at(np.concatenate([friday, monday]))
    days = derive_bars(bars, session=US, source=HOUR, target=DAY)
    assert days["open_time"].astype(str).tolist() == ["2024-01-05 00:00:00+00:00", "2024-01-08 00:00:00+00:00"]
    assert days[["source_bars", "expected_bars"]].to_numpy().tolist() == [[7, 7], [7, 7]]
    trading = bars[(bars["open_time"] >= "2024-01-05T14:00Z") & (bars["open_time"] < "2024-01-05T21:00Z")]
    assert days.loc[0, "open"] == trading["open"].iloc[0]
    assert days.loc[0, "close"] == trading["close"].iloc[-1]
    assert days.loc[0, "high"] == trading["high"].max()
    assert days.loc[0, "volume"] == pytest.approx(trading["volume"].sum(), rel=1e-12)


def test_a_bar_of_a_closed_market_tells_that_those_before_it_are_complete() -> None:
    hours = expected_opens(US, HOUR, us("2024-01-05"), us("2024-01-06"))
    after = np.arange(us("2024-01-05T21:00"), us("2024-01-06T01:00"), HOUR.microseconds)
    bars = bars_at(np.concatenate([hours, after]))
    assert len(derive_bars(bars[:-2], session=US, source=HOUR, target=DAY)) == 0
    assert len(derive_bars(bars[:-1], session=US, source=HOUR, target=DAY)) == 1


def test_volume_is_the_sum_of_what_is_reported_and_nan_when_nothing_is() -> None:
    bars = expected_bars(ALWAYS, MINUTE, "2018-01-01T00:00", "2018-01-01T00:15")
    bars["volume"] = [1.0, 2.0, np.nan, 3.0, 4.0] + 5 * [np.nan] + 5 * [0.0]
    derived = derive_bars(bars, session=ALWAYS, source=MINUTE, target=TIMEFRAMES["5m"])
    np.testing.assert_array_equal(derived["volume"], [10.0, np.nan, 0.0])


def test_no_bars_give_no_bars_with_the_same_columns() -> None:
    bars = expected_bars(FX, HOUR, "2018-06-03", "2018-06-06")
    none = derive_bars(bars.iloc[:0], session=FX, source=HOUR, target=DAY, watermark_us=us("2018-06-06"))
    derived = derive_bars(bars, session=FX, source=HOUR, target=DAY)
    assert none.empty
    assert len(derived) == 2
    assert none.dtypes.to_dict() == derived.dtypes.to_dict()
    assert list(derived) == ["open_time", "open", "high", "low", "close", "volume", "source_bars", "expected_bars"]
    assert derived.dtypes.astype(str).tolist() == ["datetime64[us, UTC]", *5 * ["float64"], *2 * ["int32"]]


def test_the_given_bars_stay_as_they_are() -> None:
    bars = expected_bars(FX, HOUR, "2018-06-03", "2018-06-06")
    before = bars.copy(deep=True)
    derive_bars(bars, session=FX, source=HOUR, target=DAY)
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_other_time_units_and_zones_mean_the_same_moments(unit: str) -> None:
    bars = expected_bars(FX, HOUR, "2018-06-03", "2018-06-06")
    other = bars.assign(open_time=bars["open_time"].dt.tz_convert("Asia/Tokyo").dt.as_unit(unit))
    assert (opens_us(other) == opens_us(bars)).all()


# ------------------------------------------------------------------------------------------------------- faults


def test_bars_out_of_order_or_off_the_grid_are_refused() -> None:
    bars = expected_bars(FX, HOUR, "2018-06-03", "2018-06-06")
    with pytest.raises(ValueError, match="sort by open_time"):
        derive_bars(bars.iloc[::-1], session=FX, source=HOUR, target=DAY)
    late = bars.assign(open_time=bars["open_time"] + pd.Timedelta(seconds=30))
    with pytest.raises(ValueError, match="1h grid"):
        derive_bars(late, session=FX, source=HOUR, target=DAY)


@pytest.mark.parametrize(("source", "target"), [("1h", "1h"), ("1h", "5m"), ("1d", "4h")])
def test_a_target_that_the_source_does_not_divide_is_refused(source: str, target: str) -> None:
    bars = expected_bars(ALWAYS, TIMEFRAMES[source], "2018-06-03", "2018-06-06")
    with pytest.raises(ValueError, match=f"{target} bars cannot be made of {source} bars"):
        derive_bars(bars, session=ALWAYS, source=TIMEFRAMES[source], target=TIMEFRAMES[target])


def test_hours_that_run_across_the_start_of_the_day_are_refused() -> None:
    kolkata = Session(name="kolkata", kind="24x7", timezone="Asia/Kolkata")  # UTC+5:30
    bars = expected_bars(kolkata, HOUR, "2018-06-03", "2018-06-06")
    with pytest.raises(ValueError, match="run across the start of session 'kolkata'"):
        derive_bars(bars, session=kolkata, source=HOUR, target=DAY)
    halves = expected_bars(kolkata, TIMEFRAMES["30m"], "2018-06-02T18:30", "2018-06-03T18:30")
    assert derive_bars(halves, session=kolkata, source=TIMEFRAMES["30m"], target=DAY)["source_bars"].tolist() == [48]
