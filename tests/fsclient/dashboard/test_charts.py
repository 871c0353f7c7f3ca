"""What the charts draw of what was counted: every point, and as few shapes as that takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from feature_repo import catalog
from feature_repo.gaps import find_gaps
from fsclient.dashboard.charts.calls import calls_by_source, hit_rate, latencies, stacked_counts
from fsclient.dashboard.charts.candles import candles
from fsclient.dashboard.charts.quality import verdicts_by_day
from fsclient.dashboard.charts.runs import durations
from fsclient.dashboard.market import Chart
from fsclient.dashboard.operations import Run, VerdictTotal
from fsclient.dashboard.theme import theme
from fsclient.dashboard.traffic.selection import Selection
from fsclient.metrics.histogram import BUCKETS

LOOK = theme("light")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def chosen() -> Selection:
    """Six minutes: calls in the first two, none, one alone, none, and one in the running minute."""
    calls = np.array([60, 120, 0, 60, 0, 60])
    histogram = np.zeros((6, BUCKETS), np.int64)
    histogram[:, 10] = calls
    none = np.zeros(6, np.int64)
    return Selection(
        times=(np.datetime64("2026-03-02T12:00:00") + np.arange(6) * np.timedelta64(60, "s")).astype("datetime64[s]"),
        step_s=60, running_s=60.0, calls=calls, errors=none, hits=calls // 2, misses=calls // 2, stale=none,
        retries=none, seconds=calls * 1e-3, histogram=histogram, by_source={"online": calls, "": none}, fallbacks={},
        by_error={"Timeout": calls},
        by_method={}, method_errors={}, method_histograms={}, symbols={},
    )  # fmt: skip


def traces(figure: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {trace["name"]: trace for trace in figure["data"]}


def test_only_a_point_without_neighbours_is_marked(chosen: Selection) -> None:
    for drawn, name in ((latencies(LOOK, chosen), "p50"), (hit_rate(LOOK, chosen), "hit rate")):
        drawn_traces = traces(drawn)
        assert np.isfinite(drawn_traces[name]["y"]).tolist() == [True, True, False, True, False, True]
        assert drawn_traces[name]["mode"] == "lines"
        alone = drawn_traces[f"{name}, alone"]
        assert alone["x"] == ["2026-03-02T12:03:00Z", "2026-03-02T12:05:00Z"]
        np.testing.assert_array_equal(alone["y"], drawn_traces[name]["y"][[3, 5]])


def test_without_holes_nothing_is_marked(chosen: Selection) -> None:
    always = replace(chosen, histogram=np.ones((6, BUCKETS), np.int64))
    assert set(traces(latencies(LOOK, always))) == {"p50", "p90", "p99"}


def test_a_count_is_a_step_that_the_next_time_ends(chosen: Selection) -> None:
    step = traces(stacked_counts(LOOK, chosen, chosen.by_error, {}))["Timeout"]
    assert step["y"].tolist() == [60, 120, 0, 60, 0, 60, 0]
    assert step["line"]["shape"] == "hv"


def test_a_source_that_gave_no_answer_has_no_outline(chosen: Selection) -> None:
    assert {trace["line"]["width"] for trace in calls_by_source(LOOK, chosen)["data"]} == {0}


def test_a_line_ends_where_bars_are_missing_and_not_over_a_weekend() -> None:
    hour = 3_600_000_000
    friday = int(datetime(2026, 3, 6, 18, tzinfo=UTC).timestamp()) * 1_000_000
    opens = friday + hour * np.array([0, 2, 3, 51, 52])  # 19:00 is missing; the last two follow the weekend
    flat = np.ones(5)
    chart = Chart(
        symbol="EUR/USD", timeframe="1h", opens_us=opens, stored_bars=5, days_us=np.empty(0, np.int64),
        bars=dict.fromkeys(("open", "high", "low", "close", "volume"), flat),
        indicators={"sma_5": np.array([1.0, 2.0, 3.0, 4.0, 5.0]), "rsi_14": np.array([np.nan, 2.0, 3.0, 4.0, 5.0])},
        revisions=np.zeros(5, np.int64),
        gaps=find_gaps(opens, session=catalog.symbol("EUR/USD").session, timeframe=catalog.timeframe("1h")),
    )  # fmt: skip
    drawn = traces(candles(LOOK, chart))
    np.testing.assert_array_equal(drawn["sma_5"]["y"], [1, np.nan, 2, 3, 4, 5])
    np.testing.assert_array_equal(drawn["rsi_14"]["y"], [np.nan, np.nan, 2, 3, 4, 5])
    assert drawn["sma_5"]["customdata"] == drawn["rsi_14"]["customdata"] == sorted([*opens.tolist(), friday + hour])
    assert drawn["sma_5, alone"]["x"] == ["2026-03-06T18:00:00Z"]
    assert "rsi_14, alone" not in drawn
    assert len(drawn["EUR/USD"]["x"]) == 5


def test_a_single_run_stands_in_an_hour() -> None:
    run = Run(id="1", kind="ingest", state="completed", started=NOW, ended=NOW + timedelta(seconds=2), counts={},
              problems=())  # fmt: skip
    first, last = durations(LOOK, [run])["layout"]["xaxis"]["range"]
    assert datetime.fromisoformat(last) - datetime.fromisoformat(first) == timedelta(hours=1)


def test_the_only_day_of_verdicts_is_as_wide_as_any_and_counted_whole() -> None:
    total = VerdictTotal(day=NOW.date(), kind="bars", passed=True, verdicts=1, rows=1, bad_rows=0)
    drawn = verdicts_by_day(LOOK, [total])
    assert {trace["width"] for trace in drawn["data"]} == {0.75 * 86_400_000}
    assert drawn["layout"]["yaxis"]["dtick"] == 1
