import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import SESSIONS, TIMEFRAMES, Session, Timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.sessions import bar_close, expected_opens, grid_opens, is_open

FX, ALWAYS, US = SESSIONS["fx"], SESSIONS["24x7"], SESSIONS["us_equity"]
BROKER = Session(name="broker", kind="fx", timezone="Europe/Athens", day_start="00:00")
MINUTE, HOUR, FOUR_HOURS, DAY = (TIMEFRAMES[name] for name in ("1m", "1h", "4h", "1d"))


def us(*moments: str) -> np.ndarray:
    return np.array(moments, "datetime64[us]").astype(np.int64)


def without(opens: np.ndarray, *ranges: tuple[str, str]) -> np.ndarray:
    for start, end in ranges:
        opens = opens[(opens < us(start)) | (opens >= us(end))]
    return opens


def rows(gaps: Gaps) -> list[tuple[str, str, int, str]]:
    frame = gaps.as_frame()
    starts, ends = (frame[column].dt.strftime("%m-%d %H:%M") for column in ("start", "end"))
    return list(zip(starts, ends, frame["missing_bars"], frame["kind"], strict=True))


WEEKS = expected_opens(FX, HOUR, *us("2018-06-03", "2018-06-16"))  # two whole weeks, Sunday 21:00 to Friday 21:00 UTC


def test_a_weekend_is_closed() -> None:
    gaps = find_gaps(WEEKS, session=FX, timeframe=HOUR)
    assert rows(gaps) == [("06-08 21:00", "06-10 21:00", 0, "closed")]
    assert gaps.by_kind == {"missing": 0, "across_close": 0, "closed": 1}
    assert (len(gaps), gaps.missing_total) == (1, 0)


def test_bars_lost_in_the_week_are_missing() -> None:
    opens = without(WEEKS, ("2018-06-05T10:00", "2018-06-05T11:00"), ("2018-06-06T20:00", "2018-06-07T02:00"))
    gaps = find_gaps(opens, session=FX, timeframe=HOUR)
    assert rows(gaps) == [
        ("06-05 10:00", "06-05 11:00", 1, "missing"),
        ("06-06 20:00", "06-07 02:00", 6, "missing"),  # over 17:00 New York, where one trading day meets the next
        ("06-08 21:00", "06-10 21:00", 0, "closed"),
    ]
    assert gaps.missing_total == 7


@pytest.mark.parametrize(
    ("missing", "row"),
    [
        (("2018-06-08T20:00", "2018-06-09"), ("06-08 20:00", "06-10 21:00", 1, "across_close")),
        (("2018-06-10", "2018-06-10T23:00"), ("06-10 21:00", "06-10 23:00", 2, "across_close")),
        (("2018-06-08T20:00", "2018-06-15T05:00"), ("06-08 20:00", "06-15 05:00", 105, "across_close")),
    ],
    ids=["Friday's end", "Sunday's beginning", "a week"],
)
def test_bars_lost_beside_a_weekend_are_counted_without_it(
    missing: tuple[str, str], row: tuple[str, str, int, str]
) -> None:
    assert rows(find_gaps(without(WEEKS, missing), session=FX, timeframe=HOUR)) == [row]


def test_christmas_is_closed() -> None:
    opens = expected_opens(FX, HOUR, *us("2018-12-24", "2018-12-28"))
    assert rows(find_gaps(opens, session=FX, timeframe=HOUR)) == [("12-24 22:00", "12-25 22:00", 0, "closed")]


def test_fx_days_and_4h_bars_over_a_switch_of_the_clock() -> None:
    for timeframe in (FOUR_HOURS, DAY):
        opens = expected_opens(FX, timeframe, *us("2018-03-04", "2018-03-24"))
        assert find_gaps(opens, session=FX, timeframe=timeframe).by_kind == {
            "missing": 0,
            "across_close": 0,
            "closed": 2,
        }


def test_a_broker_without_sunday_bars_misses_no_day() -> None:
    monday_to_friday = us("2018-03-15T22:00", "2018-03-18T22:00", "2018-03-19T22:00")  # Friday, Monday, Tuesday
    assert rows(find_gaps(monday_to_friday, session=BROKER, timeframe=DAY)) == [
        ("03-16 22:00", "03-18 22:00", 0, "closed")
    ]


def test_24x7_never_closes() -> None:
    opens = without(expected_opens(ALWAYS, MINUTE, *us("2018-06-08", "2018-06-11")), ("2018-06-09T16:49", "2018-06-10"))
    assert rows(find_gaps(opens, session=ALWAYS, timeframe=MINUTE)) == [("06-09 16:49", "06-10 00:00", 431, "missing")]


def test_us_equity_holiday_and_half_day() -> None:
    days = us("2018-11-21", "2018-11-23", "2018-11-26", "2018-11-28")  # Thanksgiving on the 22nd; the 27th is lost
    assert rows(find_gaps(days, session=US, timeframe=DAY)) == [
        ("11-22 00:00", "11-23 00:00", 0, "closed"),
        ("11-24 00:00", "11-26 00:00", 0, "closed"),
        ("11-27 00:00", "11-28 00:00", 1, "missing"),
    ]
    hours = expected_opens(US, HOUR, *us("2018-11-23", "2018-11-27"))
    assert rows(find_gaps(hours, session=US, timeframe=HOUR)) == [("11-23 18:00", "11-26 14:00", 0, "closed")]


def test_bars_of_a_closed_market_are_no_gap() -> None:
    opens = np.sort(np.append(WEEKS, us("2018-06-09T12:00")))  # a lone Saturday bar
    assert rows(find_gaps(opens, session=FX, timeframe=HOUR)) == [
        ("06-08 21:00", "06-09 12:00", 0, "closed"),
        ("06-09 13:00", "06-10 21:00", 0, "closed"),
    ]


@settings(deadline=None)  # the first example with an exchange builds its calendar
@given(
    session=st.sampled_from([FX, BROKER, ALWAYS, US]),
    timeframe=st.sampled_from([HOUR, FOUR_HOURS, DAY]),
    start=st.sampled_from(["2018-03-05", "2018-10-20", "2018-12-18"]),
    picks=st.lists(st.integers(0, 24 * 25), max_size=40),
)
def test_gaps_account_for_every_bar_of_the_grid(
    session: Session, timeframe: Timeframe, start: str, picks: list[int]
) -> None:
    first = int(us(start)[0])
    slots = grid_opens(session, timeframe, first, first + 25 * DAY.microseconds)
    opens = np.unique(slots[np.array(picks, np.int64) % slots.size])
    gaps = find_gaps(opens, session=session, timeframe=timeframe)

    between = (slots >= opens[0]) & (slots <= opens[-1]) if opens.size else np.zeros(slots.size, bool)
    absent = slots[between & ~np.isin(slots, opens)]
    assert gaps.missing_total == is_open(session, absent, timeframe).sum()
    assert sum(gaps.by_kind.values()) == len(gaps) == len(gaps.as_frame())
    for start_us, end_us, missing, kind in zip(gaps.start_us, gaps.end_us, gaps.missing_bars, gaps.kind, strict=True):
        assert end_us in opens
        before = opens[opens < start_us][-1]
        inside = slots[(slots > before) & (slots < end_us)]
        expected = inside[is_open(session, inside, timeframe)]
        assert missing == expected.size
        assert start_us == (expected[0] if expected.size else bar_close(session, timeframe, np.array([before]))[0])
        assert kind == (
            "closed" if not expected.size else "missing" if expected.size == inside.size else "across_close"
        )


@pytest.mark.parametrize("opens", [us(), us("2018-06-05T10:00")], ids=["no bar", "one bar"])
@pytest.mark.parametrize("session", [FX, US], ids=lambda s: s.name)
def test_fewer_than_two_bars_have_no_gap(session: Session, opens: np.ndarray) -> None:
    gaps = find_gaps(opens, session=session, timeframe=HOUR)
    assert (len(gaps), gaps.missing_total) == (0, 0)
    assert gaps.as_frame().dtypes.astype(str).tolist()[:3] == ["datetime64[us, UTC]", "datetime64[us, UTC]", "int64"]


def test_bars_stamped_off_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="do not open on the 1d grid of session 'fx'"):
        find_gaps(us("2018-06-05", "2018-06-06"), session=FX, timeframe=DAY)


def test_bars_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="drop duplicates"):
        find_gaps(us("2018-06-05", "2018-06-05"), session=ALWAYS, timeframe=DAY)
