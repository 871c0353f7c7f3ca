#!/usr/bin/env bash
# Prefect 3.8.8: a daily cron at a time that the spring night skips runs an hour early.
#
# Guess before running: 30 2 * * * in New York runs at 03:30 on the night of the change, or not at all.
# Seen: it runs at 01:30 standard time, half an hour before the clocks change: earlier than on any other day.
#
# Why it matters: a job that was put after the day's last bar runs before it, once a year.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check prefect==3.8.8 'fastapi<0.151' 'sqlalchemy<2.1'
"$dir/venv/bin/python" -W ignore - <<'PY'
import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo
from prefect.server.schemas.schedules import CronSchedule, RRuleSchedule
NY = ZoneInfo("America/New_York")
def runs(schedule, count, start):
    return [str(moment) for moment in asyncio.run(schedule.get_dates(count, start=start))]

seen = runs(CronSchedule(cron="30 2 * * *", timezone="America/New_York"), 3, datetime(2024, 3, 9, tzinfo=NY))
print(seen)
assert seen == ["2024-03-09 02:30:00-05:00", "2024-03-10 01:30:00-05:00", "2024-03-11 02:30:00-04:00"]
PY
