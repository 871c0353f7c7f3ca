"""Which lengths of bars there can be: those that fill an hour or a day, whatever the clocks do."""

from __future__ import annotations

import numpy as np
import pytest

from feature_repo.catalog import SESSIONS, TIMEFRAMES, Timeframe
from feature_repo.catalog.timeframes import check_timeframes
from feature_repo.sessions import bar_close, grid_open, grid_opens, session_day

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
YEAR = (1_704_067_200_000_000, 1_735_689_600_000_000)  # 2024


def name(minutes: int) -> str:
    return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h" if minutes % 1440 else f"{minutes // 1440}d"


def accepted(minutes: int) -> bool:
    try:
        Timeframe(name=name(minutes), seconds=60 * minutes)
    except ValueError:
        return False
    return True


ACCEPTED = [minutes for minutes in range(1, 3 * 1440) if accepted(minutes)]


@pytest.mark.parametrize("minutes", ACCEPTED)
@pytest.mark.parametrize("session", ["fx", "24x7", "fx_broker", "us_equity"])
def test_what_is_accepted_fills_its_days_without_a_gap_or_an_overlap(minutes: int, session: str) -> None:
    """A bar ends where the next one begins, and is as long as its name says but on the days of 23 and of 25 hours."""
    frame, market = Timeframe(name=name(minutes), seconds=60 * minutes), SESSIONS[session]
    if minutes < 15:  # those of a month show as much
        opens = grid_opens(market, frame, YEAR[0] + 60 * DAY_US, YEAR[0] + 100 * DAY_US)
    else:
        opens = grid_opens(market, frame, *YEAR)
    closes = bar_close(market, frame, opens)
    assert np.array_equal(closes[:-1], opens[1:])
    assert np.array_equal(grid_open(market, frame, closes - 1), opens)
    assert np.array_equal(session_day(market, opens), session_day(market, closes - 1)), "no bar lies in two days"
    lengths = closes - opens
    assert (lengths != frame.microseconds).sum() <= 2


@pytest.mark.parametrize(
    ("frame", "seconds", "why"),
    [
        ("1w", 604_800, "'1w' cannot be: bars are of a day at most"),
        ("3d", 259_200, "'3d' cannot be: bars are of a day at most"),
        ("45m", 2700, "'45m' cannot be: its bars do not fill an hour, as 30m or 1h do"),
        ("7h", 25_200, "'7h' cannot be: its bars do not fill a day, as 6h or 8h do"),
        ("59m", 3540, "'59m' cannot be: its bars do not fill an hour, as 30m or 1h do"),
        ("30s", 30, "'30s' cannot be: bars are of whole minutes"),
        ("1h", 7200, "'1h' of 7200 s: a name is its length"),
        ("hour", 3600, "'hour' of 3600 s: a name is its length"),
        ("0m", 0, "'0m' of 0 s: a name is its length"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(frame: str, seconds: int, why: str) -> None:
    with pytest.raises(ValueError, match=r"catalog: timeframe") as caught:
        Timeframe(name=frame, seconds=seconds)
    assert why in str(caught.value)


@pytest.mark.parametrize("second", [("60m", 3600), ("30m", 1800)])
def test_lengths_are_listed_once_and_in_order(second: tuple[str, int]) -> None:
    frames = [TIMEFRAMES["1h"], Timeframe(name=second[0], seconds=second[1])]
    with pytest.raises(ValueError, match=f"'{second[0]}' is not longer than '1h' before it"):
        check_timeframes({frame.name: frame for frame in frames})
