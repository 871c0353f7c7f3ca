"""The schedules, by Prefect's own reckoning: after every bar close of every session there is a run, DST or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import yaml
from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from feature_repo import catalog
from feature_repo.home import REPO
from feature_repo.sessions import bar_close, expected_opens, grid_open

FILE = REPO.parent / "deployments" / "prefect.yaml"
DEPLOYMENTS: dict[str, Any] = {entry["name"]: entry for entry in yaml.safe_load(FILE.read_text())["deployments"]}
SERVER_SIDE = {"CronSchedule": CronSchedule, "IntervalSchedule": IntervalSchedule, "RRuleSchedule": RRuleSchedule}
# New York's clocks change on 2026-03-08 and 2026-11-01, Athens' on 2026-03-29 and 2026-10-25.
WEEKS = [datetime(2026, *day, tzinfo=UTC) for day in ((3, 6), (3, 27), (7, 3), (10, 23), (10, 30))]


async def runs(deployment: str, start: datetime, end: datetime) -> np.ndarray[Any, Any]:
    """When the server starts runs of a deployment, microseconds since 1970, ascending."""
    starts: set[int] = set()
    for config in DEPLOYMENTS[deployment]["schedules"]:
        scheduled = _schedule_config_to_deployment_schedule(config)["schedule"]
        schedule = SERVER_SIDE[type(scheduled).__name__].model_validate(scheduled.model_dump())
        begin = start
        while True:  # Prefect returns a thousand at most
            dates = await schedule.get_dates(n=900, start=begin, end=end)
            starts |= {round(date.timestamp() * 1e6) for date in dates}
            if len(dates) < 900:
                break
            begin = dates[-1] + timedelta(seconds=1)
    return np.array(sorted(starts))


@pytest.mark.parametrize("timeframe", catalog.TIMEFRAMES)
@pytest.mark.parametrize("week", WEEKS, ids=lambda week: f"{week:%Y-%m-%d}")
async def test_a_run_begins_within_a_minute_of_every_close(timeframe: str, week: datetime) -> None:
    spec, start = catalog.TIMEFRAMES[timeframe], week
    days = 1 if timeframe == "1m" else 5
    start += timedelta(days=2 if timeframe == "1m" else 0)
    end = start + timedelta(days=days)
    begun = await runs(f"materialize-{timeframe}", start, end + timedelta(minutes=2))
    start_us, end_us = (int(moment.timestamp() * 1e6) for moment in (start, end))
    for session in catalog.SESSIONS.values():
        closes = bar_close(session, spec, expected_opens(session, spec, start_us, end_us))
        closes = closes[(closes >= start_us) & (closes < end_us)]
        if session.kind == "24x7":
            assert closes.size
        waits = begun[np.searchsorted(begun, closes)] - closes
        assert (waits > 0).all(), session.name
        assert (waits <= 60_000_000).all(), session.name


@pytest.mark.parametrize("timeframe", catalog.TIMEFRAMES)
async def test_no_run_begins_where_no_market_closes_a_bar(timeframe: str) -> None:
    """Without a change of clocks every run is near a close on some session's grid, open market or not."""
    spec, start = catalog.TIMEFRAMES[timeframe], datetime(2026, 7, 4, tzinfo=UTC)
    end = start + timedelta(days=1 if timeframe == "1m" else 3)
    begun = await runs(f"materialize-{timeframe}", start, end)
    ages = np.min([begun - grid_open(session, spec, begun) for session in catalog.SESSIONS.values()], axis=0)
    assert (ages <= 60_000_000).all()


async def test_runs_of_a_full_hour_begin_one_after_another() -> None:
    start = datetime(2026, 7, 6, 21, 0, tzinfo=UTC)
    names = [f"materialize-{tf}" for tf in catalog.TIMEFRAMES]
    first = [int((await runs(name, start, start + timedelta(minutes=1)))[0]) for name in names]
    assert first == sorted(set(first))
